"""From evaluations to tables and figures.

``results`` collects, ``comparisons`` compares, ``wording`` says it, ``tables``, ``figures`` and ``web`` write. All numbers are of the last
policy of a run; the best over training is shown nowhere, since choosing it would need the very rollouts that offline learning does without.
"""
