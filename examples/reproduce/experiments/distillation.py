"""A norm-free student that learns from a model with LayerNorm as well as from the text.

The paper's Appendix D proposes it. The student's loss is (1 - weight) cross-entropy + weight temperature² KL(teacher
|| student); the teacher is the finished SM + LN + G of the same seed. Perplexities are of the text only.
"""

from comparison import Comparison, Estimate, paired_percent
from configurations import CONFIGURATIONS
from experiments.perplexity import draw_evaluation_loss, seeds_sentence
from text import bullets, conclusion, direction, names, number_text, table

ORDER = 22
HELP = "SM + R taught by SM + LN + G"
BEYOND = True

STUDENT, TEACHER, TAUGHT = "sm_r", "sm_ln_g", "sm_r_distilled"
OPTIONS = {"teacher_weight": 0.5, "teacher_temperature": 2}


def grid(request):
    teacher = request.spec(TEACHER)
    return [request.spec(STUDENT), teacher, request.spec(TAUGHT, options=OPTIONS, teacher=teacher)]


def triples(chapter):
    """(teacher, student, taught) of each seed that has all three."""
    by_spec = {run.spec: run for run in chapter.fixed}
    students = {run.spec.seed: run for run in chapter.fixed if run.config == STUDENT}
    return [
        (by_spec[run.spec.teacher], students[run.spec.seed], run)
        for run in chapter.main
        if run.config == TAUGHT
        and run.spec.options == tuple(OPTIONS.items())
        and run.spec.teacher in by_spec
        and run.spec.seed in students
    ]


def closed_share(sound):
    """Share of the gap between student and teacher that teaching closes, in %: an Estimate over the seeds,
    empty if the teacher is not ahead with every seed."""
    gaps = [student.perplexity - teacher.perplexity for teacher, student, _ in sound]
    if not gaps or min(gaps) <= 0:
        return Estimate.of([])
    return Estimate.of(
        [100 * (student.perplexity - taught.perplexity) / gap for (_, student, taught), gap in zip(sound, gaps)]
    )


def found_sentence(sound):
    teachers, students, taught = ([triple[place] for triple in sound] for place in range(3))
    share, to_student = closed_share(sound), paired_percent(taught, students)
    gap = paired_percent(students, teachers)
    one, other, best = (CONFIGURATIONS[config].label for config in (TAUGHT, STUDENT, TEACHER))
    text = f"{one} is {direction(to_student.mean)} {other} of the same seed, which is {direction(gap.mean)} {best}"
    if not share.count:
        return text + f"; a share of the gap is not defined, since {best} is not ahead of {other} with every seed."
    if share.mean < 0:
        return text + f": teaching widens the gap, by {number_text(-share.mean, '.0f')} %."
    return text + f": teaching closes {share.text('.0f')} % of the gap between them."


def limits_sentence(sound):
    slower = Estimate.of([taught.tokens_per_second / student.tokens_per_second for _, student, taught in sound])
    weight, temperature = OPTIONS.values()
    cost = f": with its teacher a run has {slower.text()} times the speed of one without" if slower.count else ""
    return (
        f"what other teachers do: this one has the student's size and has read the same text, at one weight ({weight}) "
        f"and one temperature ({temperature}); runs have the same number of tokens, not the same cost{cost}."
    )


def section(chapter):
    """The three perplexities, and the share of the gap that is closed."""
    complete = triples(chapter)
    if not complete:
        return []
    comparison = Comparison([run for triple in complete for run in triple])
    sound = [triple for triple in complete if not any(run.diverged for run in triple)]
    lost = [run.spec.label for triple in complete for run in triple if run.diverged]
    rows = [
        [
            CONFIGURATIONS[config].label,
            f"**{comparison.perplexity(config).text(missing='diverged')}**",
            *("0" if config == other else comparison.delta(config, other).text("+.2f") for other in (STUDENT, TEACHER)),
            comparison.early_entropy(config).text(),
        ]
        for config in (TEACHER, STUDENT, TAUGHT)
    ]
    student, teacher = (f"to {CONFIGURATIONS[config].label} (%)" for config in (STUDENT, TEACHER))
    early = f"entropy of the heads of layers {comparison.early[0]} to {comparison.early[-1]}"
    options = names(f"{name.replace('_', ' ')} {value}" for name, value in OPTIONS.items())
    return [
        chapter.title("Distillation"),
        f"{CONFIGURATIONS[TAUGHT].label}: {CONFIGURATIONS[STUDENT].label} that learns from the finished "
        f"{CONFIGURATIONS[TEACHER].label} of its seed as well as from the text, with {options}.",
        table(["Runs", "Eval PPL", student, teacher, early], rows),
        seeds_sentence(comparison),
        bullets([f"**{label} diverged** and is left out." for label in dict.fromkeys(lost)]),
        chapter.draw(
            draw_evaluation_loss, comparison, name="distillation", alt="Evaluation loss with and without a teacher"
        ),
        conclusion(found_sentence(sound), limits_sentence(sound)) if sound else "",
    ]
