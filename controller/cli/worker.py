"""`edgefleet worker`: workers of the production wiring, beside a controller that has an external broker."""

from cyclopts import App

app = App(name="worker")
