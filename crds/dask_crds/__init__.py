"""The API of the four kinds, typed and documented once; all else derives from it.

``model`` is the source, with ``kinds`` for what a kind is beside its fields; ``schema`` makes CRDs and JSON Schema of
them, ``validation`` finds mistakes before the API server does.
"""
