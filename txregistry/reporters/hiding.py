"""Takes out of texts what nobody else should read: keys, tokens, passwords, signatures.

Texts of errors hold what others have put into them. May import the standard library.
"""

from __future__ import annotations

import re

HIDDEN = "[hidden]"

_SECRETS = re.compile(
    r"""(?ix)
    (?P<before>
        \b(?:basic|bearer)\s{1,5}(?=[\w+/=.~-]{8})
      | (?:authorization|cookie|passw(?:or)?d|secret|token|api[-_]?key|license[-_]?key
            |account[-_]?key|access[-_]?key(?:[-_]?id)?|credential|signature)["']?\s{0,5}[=:]\s{0,5}
            (?:(?:basic|bearer)\s{1,5})?["']?
      | [?&]sig=
      | ://[^\s/:@]{0,200}:(?=[^\s/@]{1,300}@)
    )
    (?:(?<=:)[^\s/@]{1,300}(?=@) | [^\s"'&,;)}\]]+)
  | txrk_\w+
  | \beyJ[\w-]{5,500}\.[\w-]+(?:\.[\w-]*)?
    """
)
"""Every part that may be tried at many places is bounded: texts come from anywhere, and no thread
does anything else while one is looked at."""


def hide(text: str) -> str:
    """A text without what looks like a secret."""
    return _SECRETS.sub(lambda found: (found["before"] or "") + HIDDEN, text)


def shown(text: str, most: int) -> str:
    """A text as it may leave this machine.

    :param most: characters that it may have.
    """
    # What is cut off must not be what would have told that it is a secret.
    text = hide(text[: 2 * most])
    return text if len(text) <= most else text[: most - 1] + "…"
