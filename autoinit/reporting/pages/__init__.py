"""One page for reports, checks, signals and dataflows: a file that loads nothing, with the model's graph as a picture.

`document` turns what is shown into one JSON document, `page` puts it into the template with style and scripts; all else
is done by these, in the browser. The graph is laid out there by the Eclipse Layout Kernel (`elk.bundled.js`, as its
package elkjs ships it, EPL-2.0: `elk.LICENSE.md`).
"""
