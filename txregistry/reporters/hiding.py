"""Takes out of texts what nobody else should read: keys, tokens, passwords, signatures.

Texts of errors hold what others have put into them. May import the standard library.
"""

from __future__ import annotations

import re

HIDDEN = "[hidden]"

_SECRETS = re.compile(
    r"""(?ix)
    (?P<before>
        \b(?:basic|bearer)\s+(?=[\w+/=.~-]{8})
      | \b\w*(?:authorization|cookie|passw(?:or)?d|secret|token|api[-_]?key|license[-_]?key
            |account[-_]?key|access[-_]?key(?:[-_]?id)?|credential|signature)["']?\s*[=:]\s*
            (?:(?:basic|bearer)\s+)?["']?
      | [?&]sig=
      | [a-z][a-z0-9+.-]*://[^\s/:@]*:(?=[^\s/@]+@)
    )
    (?:(?<=:)[^\s/@]+(?=@) | [^\s"'&,;)}\]]+)
  | \btxrk_\w+
  | \beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?
    """
)


def hide(text: str) -> str:
    """A text without what looks like a secret."""
    return _SECRETS.sub(lambda found: (found["before"] or "") + HIDDEN, text)
