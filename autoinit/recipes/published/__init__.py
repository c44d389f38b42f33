"""The recipes, a file each: a function under `@register_recipe`, whose docstring is its document."""
