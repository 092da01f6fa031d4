"""HTTP: the only room that knows Klein, Werkzeug and twisted.web.

It parses requests, calls one method of ``IRegistry`` each, and renders one answer. It may import
the model, the interfaces and ``txregistry.log``; never the rooms that implement the interfaces.
"""
