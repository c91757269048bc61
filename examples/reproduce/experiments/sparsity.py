"""What an L1 penalty on the hidden units of SM + R makes of its zeros, and of its perplexity."""

ORDER = 23
HELP = "SM + R with an L1 penalty on its hidden units, 1e-5 to 1e-3"
BEYOND = True

FREE, PENALISED = "sm_r", "sm_r_sparse"
PENALTIES = (1e-5, 1e-4, 1e-3)


def grid(request):
    """A penalty of 0 is the plain SM + R."""
    penalised = [request.spec(PENALISED, options={"hidden_penalty": penalty}) for penalty in PENALTIES]
    return [request.spec(FREE), *penalised]


def section(chapter):
    return []
