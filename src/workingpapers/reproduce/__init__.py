"""The main job: run experiments, judge their claims, write the report."""
