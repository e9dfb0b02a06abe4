"""The deed: what a run is made from, the run, the plan, the sweep."""
