"""Pure builders: a custom resource in, the manifests of its children out.

Nothing here reads a clock, the environment or the network; the same input gives the same manifest at synth time
(``python -m dask_synth render``) and at run time.
"""
