"""How a step of a recurrent cell in PyTorch becomes text of the language.

`step.py` says how a module is called. `export.py` has PyTorch trace it. `walk.py` looks up each operation in the table of
`rules/`, and makes layers of them (`values.py`). `text.py` writes the layers as equations, with the names of `names.py`.
`prelude.py` computes the weights of these equations from the module's parameters.
"""
