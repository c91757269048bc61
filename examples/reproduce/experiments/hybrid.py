"""ReLU in some layers and GELU in the others, without LayerNorm."""

ORDER = 21
HELP = "ReLU and GELU in different layers of one norm-free model"
BEYOND = True

PURE = ("sm_g", "sm_r")
MIXED = ("sm_relu_gelu", "sm_gelu_relu", "sm_alternating")


def grid(request):
    return [request.spec(config) for config in (*PURE, *MIXED)]


def section(chapter):
    return []
