"""One HTML file with everything a data set shows; it needs no network, no script and no colour to be read.

`subject` selects what is shown, one module a plot draws it with Matplotlib as SVG, `page` puts them together with Jinja.
"""
