#!/usr/bin/python3
"""A configuration, a shape, a recipe and an experiment are added in one place and found by every reader.

Works in a copy of the sources, which it changes as a contributor would.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CXX = os.environ.get("CXX", "c++")
PATIENCE = 1200

LINES = {
    "CONFIGURATION": 'CONFIGURATION(sm_dyt_relu_silu, "SM + DyT + R; [then S", DynamicTanh, Layerwise<ReLU, 2, SiLU>, PostNorm, EntropyGuided)',
    "SHAPE": "SHAPE(wee, brief, DecoderConfig{.layers = 4, .heads = 2, .width = 8, .ffn_width = 16, .context = 9, .vocab_size = 5})",
    "TRAINING": "TRAINING(brief, .steps = 5, .batch_size = 3, .accumulate = 2, .learning_rate = 1e-2, .warmup_ratio = 0.5, "
    ".weight_decay = 0, .init_std = 0.5)",
    "RECIPE": "RECIPE(wet, .final_norm = FinalNorm::same_as_norm, .dropout = 0.25, .decay_slopes = true)",
}
# The compiler's messages about those lines, and about the list as a whole.
CHECKS = """
#include "configurations.hpp"
using namespace configurations;
constexpr DecoderConfig shape = shapes::wee.by(recipes::wet);
static_assert(shape.layers == 4 && shape.vocab_size == 5 && shape.final_norm == FinalNorm::same_as_norm);
static_assert(shapes::wee.training.steps == 5 && shapes::wee.training.init_std == 0.5 && recipes::wet.dropout == 0.25);
using Parts = sm_dyt_relu_silu<shape>;
using Model = Decoder<shape, Parts::NormPolicy, Parts::ActivationPolicy, Cpu, NoObserver, Parts::LayoutPolicy,
                      Parts::ObjectivePolicy>;
static_assert(Model::Activation::name == "relu*2+silu" && std::is_same_v<Model::Norm, DynamicTanh>);
static_assert(std::is_same_v<Model::Layout, PostNorm> && std::is_same_v<Model::Objective, EntropyGuided<Cpu>>);
"""
EXPERIMENT = '''"""The paper's best norm-free model at a third of the learning rate, say."""

from comparison import Comparison
from experiments.perplexity import perplexity_table

ORDER = 4
HELP = "the norm-free ReLU model at 3 times the rate"
PAPER = {}


def grid(request):
    return [request.spec("sm_r", rate_factor=3)]


def draw_nothing(figures, runs):
    return figures.plt.figure()


def section(chapter):
    runs = [run for run in chapter.plain if run.spec.rate_factor == 3]
    if not runs:
        return []
    return [
        chapter.title("Three times the rate"),
        perplexity_table([("", Comparison(runs), PAPER)]),
        chapter.draw(draw_nothing, runs, name="tripled", alt="Nothing"),
    ]
'''


class ConfigurationsTest(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory(prefix="lnfree-test-")
        self.addCleanup(place.cleanup)
        self.place = Path(place.name)
        self.root = self.place / "tree"
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("cmake", "docs", "examples", "include", "tests/docs", "tests/report"):
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        for name in ("CMakeLists.txt", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"):
            shutil.copy(ROOT / name, self.root / name)
        self.definitions = self.root / "examples" / "configurations.def"

    def add(self, **lines):
        """Adds each line before the first of its kind."""
        text = self.definitions.read_text(encoding="utf-8")
        for macro, line in lines.items():
            text = text.replace(f"\n{macro}(", f"\n{line}\n{macro}(", 1)
        self.definitions.write_text(text, encoding="utf-8")

    def run_in_tree(self, *command, status=0, **environment):
        """The output of a program in the copied tree."""
        result = subprocess.run(
            [str(word) for word in command],
            cwd=self.root,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual(result.returncode, status, result.stdout)
        return result.stdout

    def refused(self, *options):
        """reproduce.sh's message about unknown or impossible options."""
        return self.run_in_tree(self.root / "examples" / "reproduce.sh", *options, status=1)

    def job(self, *options, **others):
        return self.run_in_tree(sys.executable, self.root / "examples" / "reproduce", *options, **others)

    def test_the_shell_and_python_know_the_same(self):
        known = self.run_in_tree(
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, 'examples/reproduce')\n"
            "from configurations import *; from experiments import EXPERIMENTS, GROUPS; from runs import DEVICE_SUFFIX\n"
            "from scales import SCALES\n"
            "for names in CONFIGURATIONS, [*EXPERIMENTS, *GROUPS], RECIPES, SCALES, DEVICE_SUFFIX: print(*names)\n"
            "print(*PAPER_CONFIGS)",
        ).splitlines()
        for option, names in zip(("--configs", "--experiment", "--recipe", "--scale", "--device"), known):
            self.assertIn(f"'none'; choose from {names}.\n", self.refused(option, "none"))
        self.assertGreaterEqual(len(known[0].split()), 15)
        text = self.run_in_tree(self.root / "examples" / "reproduce.sh", "--help")
        self.assertIn(f"(default: {known[-1]})", text)
        self.assertIn(f"changes in % refer to {known[-1].split()[0]}", text)
        for name in " ".join(known[1:-1]).split():
            self.assertRegex(text, rf"\b{name}\b")
        self.assertNotIn("@", text)

    def test_one_line_is_known_to_python_and_the_shell(self):
        self.add(**LINES)
        new = ("--configs", "sm_dyt_relu_silu", "--recipe", "wet")
        targets = self.job("--targets", *new, "--out", "x").split()
        self.assertIn("train_demo_sm_dyt_relu_silu", targets, "the first recipe is the one without a suffix")
        self.assertIn("train_demo_sm_dyt_relu_silu_clean", self.job("--targets", *new[:2], "--recipe", "clean", "--out", "x"))
        self.assertIn("is a file", self.refused(*new, "--out", self.definitions))
        self.assertIn(" sm_dyt_relu_silu ", " " + self.refused("--configs", "none"))
        self.assertIn("choose from wet paper clean clean_untied.", self.refused("--recipe", "none"))
        text = self.run_in_tree(
            sys.executable, self.root / "examples/reproduce/report.py", "--private-inference", "wee"
        )
        row = next(line for line in text.splitlines() if line.startswith("| SM + DyT + R; [then S |"))
        self.assertIn("4 layers", self.shape_of("wee"))
        # Two of four layers with ReLU, two with SiLU, of 16 values each.
        self.assertEqual(row.split("|")[2:].count(" 8 "), 2, row)

    def shape_of(self, name):
        return self.run_in_tree(
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, 'examples/reproduce')\n"
            f"from configurations import SHAPES; shape = SHAPES['{name}']\n"
            "print(shape.layers, 'layers', shape.training)",
        )

    def test_one_line_is_known_to_cmake_and_the_compiler(self):
        self.add(**LINES)
        (self.root / "examples" / "checks.cpp").write_text(CHECKS)
        with open(self.root / "examples" / "CMakeLists.txt", "a", encoding="utf-8") as file:
            file.write("add_library(checks OBJECT EXCLUDE_FROM_ALL checks.cpp)\n")
            file.write("target_link_libraries(checks PRIVATE lnfree::lnfree)\n")
        self.run_in_tree(
            "cmake", "-B", self.place / "build", "-S", self.root, "-G", "Ninja", f"-DCMAKE_CXX_COMPILER={CXX}",
            "-DLNFREE_BUILD_EXAMPLES=ON", "-DLNFREE_BUILD_TESTS=OFF",
        )  # fmt: skip
        before = self.run_in_tree("cmake", "--build", self.place / "build", "--target", "help")
        for name in ("train_wee_sm_dyt_relu_silu", "train_wee_sm_dyt_relu_silu_clean", "train_gpt2_sm_r_paper"):
            self.assertRegex(before, rf"(?m)^{name}:", name)
        for recipe in ("paper", "clean", "wet"):
            for name in self.job("--targets", "--experiment", "all", "--recipe", recipe, "--out", "x").split():
                if name != "prepare_corpus":  # which needs more libraries
                    self.assertRegex(before, rf"(?m)^{name}:", name)
        self.run_in_tree("cmake", "--build", self.place / "build", "--target", "checks")
        # No reconfiguration is needed after a change.
        text = self.definitions.read_text(encoding="utf-8")
        self.definitions.write_text(text.replace("(sm_dyt_relu_silu", "(sm_other"), encoding="utf-8")
        self.run_in_tree("cmake", "--build", self.place / "build", "--target", "build.ninja")
        after = self.run_in_tree("cmake", "--build", self.place / "build", "--target", "help")
        self.assertIn("train_demo_sm_other:", after)
        self.assertNotIn("sm_dyt_relu_silu", after)

    def test_documents_out_of_step_are_told(self):
        check = (sys.executable, self.root / "tests" / "docs" / "check_docs.py", self.root)
        before = subprocess.run(check, capture_output=True, text=True, check=False).stderr
        self.add(**LINES)
        (self.root / "examples/reproduce/experiments/tripled.py").write_text(EXPERIMENT)
        text = self.run_in_tree(*check, status=1)
        for word in ("sm_dyt_relu_silu", "wee", "wet", "tripled"):
            self.assertIn(f"`{word}`", text)
            self.assertNotIn(f"`{word}`", before)

    def test_a_line_that_is_none_is_told(self):
        for line, words in (
            ('CONFIGURATION(sm_x, "SM", Identity,', "one line"),
            ("CONFIGURATION(sm_x, SM, Identity, GELU)", "label in quotes"),
            ('CONFIGURATION(sm_r, "SM", Identity, GELU)', "already"),
            ("SHAPE(wee, none, demo)", "names no TRAINING"),
            ("SHAPE(wee, small, none)", "no shape none"),
            ("SHAPE(wee, small, DecoderConfig{.layers = 2})", "not numbers"),
            ("PAPER_TABLE(sm_none)", "sm_none"),
            ('  CONFIGURATION(sm_x, "SM", Identity, GELU)', "one line"),
            ('CONFIGURATION( sm_x, "SM", Identity, GELU)', "one line"),
            ('/* CONFIGURATION(sm_x, "SM", Identity, GELU) */', "one line"),
            ("#if 0", "one line"),
        ):
            with self.subTest(line=line):
                whole = self.definitions.read_text(encoding="utf-8")
                macro = line.partition("(")[0]
                self.add(**{macro if macro in (*LINES, "PAPER_TABLE") else "RECIPE": line})
                text = self.job("--targets", "--out", "x", status=1)
                self.assertIn(words, text)
                self.assertEqual(len(text.splitlines()), 1, text)
                self.definitions.write_text(whole, encoding="utf-8")

    def test_an_experiment_is_one_file(self):
        (self.root / "examples/reproduce/experiments/tripled.py").write_text(EXPERIMENT)
        self.assertIn("choose from perplexity slopes pythia tripled stability downstream tuned", self.refused("--experiment", "none"))
        text = self.run_in_tree(self.root / "examples" / "reproduce.sh", "--help")
        self.assertIn("all: those of the paper, the first 5,", text)
        self.assertRegex(text, r"(?m)^ +tripled: the norm-free ReLU model at 3 times the rate$")

        programs, corpus, out = (self.place / name for name in ("bin", "corpus", "run"))
        programs.mkdir()
        corpus.mkdir()
        for name in ("prepare_corpus", "train_demo_sm_r"):
            (programs / name).symlink_to(self.root / "tests" / "report" / "fake_trainer.py")
        options = ("--scale", "smoke", "--out", out, "--corpus", corpus, "--programs", programs)
        self.job("--experiment", "tripled", *options, FAKE_STARTS=str(self.place / "starts"))
        trained = [start for start in (self.place / "starts").read_text().splitlines() if "--train " in start]
        self.assertEqual(len(trained), 1)
        self.assertIn("--learning-rate 0.006", trained[0])
        report = (out / "report.md").read_text()
        self.assertIn("## Three times the rate", report)
        self.assertIn("(figures/tripled.png)", report)
        self.assertIn("--experiment tripled --scale smoke", report)
        self.assertTrue((out / "figures" / "tripled.png").exists())

    def test_what_goes_past_the_paper_is_not_among_all(self):
        path = self.root / "examples/reproduce/experiments/tripled.py"
        for text, among in ((EXPERIMENT, "all"), (EXPERIMENT.replace("ORDER = 4", "ORDER = 40\nBEYOND = True"), "beyond")):
            path.write_text(text)
            groups = self.run_in_tree(
                sys.executable,
                "-c",
                "import sys; sys.path.insert(0, 'examples/reproduce')\n"
                "from experiments import GROUPS\n"
                "print(*(group for group, names in GROUPS.items() if 'tripled' in names))",
            )
            self.assertEqual(groups.split(), [among])
        help_text = self.run_in_tree(self.root / "examples" / "reproduce.sh", "--help")
        self.assertIn("all: those of the paper, the first 4,", help_text)

    def test_a_file_that_is_no_experiment_is_told(self):
        for change, words in (
            (("ORDER = 4\n", ""), "ORDER"),
            (("ORDER = 4\n", "ORDER = 2 + 2\n"), "ORDER"),
            (("def section(", "def other("), "section"),
            (("def grid(", "def other("), "grid"),
            (("ORDER = 4\n", "ORDER = 4\nBEYOND = 1\n"), "BEYOND"),
            (('HELP = "the norm-free', 'HELP = "the " "norm-free'), "one line"),
        ):
            with self.subTest(change=change):
                path = self.root / "examples/reproduce/experiments/tripled.py"
                path.write_text(EXPERIMENT.replace(*change))
                text = self.job("--targets", "--out", "x", status=1)
                self.assertIn(words, text)
                self.assertEqual(len(text.splitlines()), 1, text)


if __name__ == "__main__":
    unittest.main()
