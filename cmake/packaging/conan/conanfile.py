"""lnfree as a Conan 2 package, from the checkout that contains this recipe:

conan create cmake/packaging/conan
"""

import re
from pathlib import Path

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain
from conan.tools.files import copy

PROJECT = Path(__file__).resolve().parents[3]


class Lnfree(ConanFile):
    name = "lnfree"
    description = "Decoder-only transformers with and without normalization, as C++20 templates"
    license = "MIT"
    topics = ("transformers", "language-models", "header-only", "cpp20")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    no_copy_source = True

    def set_version(self):
        header = (PROJECT / "include/lnfree/version.hpp").read_text()
        self.version = re.search(r'LNFREE_VERSION "(.+)"', header)[1]

    def export_sources(self):
        for pattern in ("CMakeLists.txt", "LICENSE", "CHANGELOG.md", "CITATION.cff", "cmake/*", "include/*", "docs/Doxyfile.in"):
            copy(self, pattern, PROJECT, self.export_sources_folder)

    def requirements(self):
        # Any newer version works; their headers are included by lnfree's.
        self.requires("eigen/[>=3.4 <6]", transitive_headers=True)
        self.requires("nlohmann_json/[>=3.10 <4]", transitive_headers=True)

    def validate(self):
        check_min_cppstd(self, 20)

    def package_id(self):
        self.info.clear()

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.user_presets_path = False
        for group in ("EXAMPLES", "TESTS", "BENCHMARKS"):
            toolchain.cache_variables[f"LNFREE_BUILD_{group}"] = False
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, Path(self.package_folder) / "licenses")

    def package_info(self):
        # lnfree's own CMake package, with all its components.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = ["share/cmake/lnfree"]
        self.cpp_info.set_property("pkg_config_name", "lnfree")
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        flags = [] if self.settings.get_safe("compiler") == "msvc" else ["-fopenmp"]
        self.cpp_info.cxxflags = [*flags, "-fno-math-errno"]
        self.cpp_info.exelinkflags = self.cpp_info.sharedlinkflags = flags
