"""Values that say what weights are to become and what they became. They compute nothing and know no model.

To add an option of a plan, add it to `options`; a distribution, to `distributions`.
"""
