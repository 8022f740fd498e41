"""The figures by name, with what a page says of them. Reading this needs no matplotlib."""

from dataclasses import dataclass

from inspo_core.tables import Entry, Table


@dataclass(frozen=True, kw_only=True)
class FigureEntry(Entry):
    """``target`` is called with the results and their comparisons and gives a matplotlib ``Figure``, or None if there is none."""

    title: str
    caption: str


FIGURES: Table[FigureEntry] = Table(
    "figure",
    "inspo.figures",
    FigureEntry,
    {  # in their order on a page
        "scores": FigureEntry(
            target="inspo_core.report.figures:draw_scores",
            title="Scores over all datasets",
            caption="IQM of the scores of all runs on all datasets, with its interval; datasets weigh the same.",
        ),
        "returns": FigureEntry(
            target="inspo_core.report.figures:draw_returns",
            title="Returns of the last policies",
            caption="Every seed's return (small dots), their IQM and its interval.",
        ),
        "differences": FigureEntry(
            target="inspo_core.report.figures:draw_differences",
            title="What each variant changes",
            caption="Score of the variant minus that of its algorithm, seed by seed: left of the dotted line the variant is worse.",
        ),
        "improvement": FigureEntry(
            target="inspo_core.report.figures:draw_improvement",
            title="Probability of improvement",
            caption="How probably a run of the first algorithm is better than one of the other; 0.5 is a draw.",
        ),
        "profiles": FigureEntry(
            target="inspo_core.report.figures:draw_profiles",
            title="Performance profiles",
            caption="Share of all runs that score above a threshold; the further up, the better.",
        ),
        "curves_greedy": FigureEntry(
            target="inspo_core.report.figures:draw_greedy_curves",
            title="Returns during training, greedy actions",
            caption="IQM over seeds at every evaluation. Nothing is chosen by these evaluations: the last policy is the result.",
        ),
        "curves_sampled": FigureEntry(
            target="inspo_core.report.figures:draw_sampled_curves",
            title="Returns during training, sampled actions",
            caption="The same with every agent drawing from its policy.",
        ),
    },
)
