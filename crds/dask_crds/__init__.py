"""The API of the four kinds, typed and documented once; all else derives from it.

``model`` is the source, ``schema`` makes CRDs and JSON Schema of it, ``validation`` finds mistakes before the API
server does.
"""
