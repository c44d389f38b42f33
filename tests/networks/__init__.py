"""Random networks whose right answer is known by construction, as they are put together from known pieces.

`pieces` describes a network, `truth` says without torch what each of its weights feeds and how it is to be scaled,
`building` makes the module in any of its spellings, and `drawing` draws descriptions with hypothesis.
"""
