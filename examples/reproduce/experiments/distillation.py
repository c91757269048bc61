"""A norm-free student that learns from a model with LayerNorm as well as from the text."""

ORDER = 22
HELP = "SM + R taught by SM + LN + G"
BEYOND = True

STUDENT, TEACHER, TAUGHT = "sm_r", "sm_ln_g", "sm_r_distilled"
OPTIONS = {"teacher_weight": 0.5, "teacher_temperature": 2}


def grid(request):
    teacher = request.spec(TEACHER)
    return [request.spec(STUDENT), teacher, request.spec(TAUGHT, options=OPTIONS, teacher=teacher)]


def section(chapter):
    return []
