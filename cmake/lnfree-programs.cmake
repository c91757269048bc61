# Whether examples and tests are built by default: not within another project, and not if a library that only
# they need is missing. Installing lnfree thus needs only lnfree's own dependencies.

# lnfree_programs_default(KIND group package [arguments of find_package...])
function(lnfree_programs_default kind group package)
  set(default ${PROJECT_IS_TOP_LEVEL})
  if(default AND NOT DEFINED LNFREE_BUILD_${kind})
    find_package(${package} QUIET ${ARGN})
    if(NOT ${package}_FOUND)
      set(default OFF)
      string(TOLOWER ${kind} name)
      message(STATUS "lnfree: the ${name} are left out, since ${package} was not found; to build them, run "
        "examples/install_dependencies.sh ${group} and configure with -D LNFREE_BUILD_${kind}=ON")
    endif()
  endif()
  set(LNFREE_${kind}_DEFAULT ${default} PARENT_SCOPE)
endfunction()

# Finds a package that examples, tests or benchmarks need, or stops and says what to do.
#
# lnfree_programs_require(KIND group package [arguments of find_package...])
function(lnfree_programs_require kind group package)
  find_package(${package} QUIET ${ARGN})
  if(NOT ${package}_FOUND)
    string(TOLOWER ${kind} name)
    message(FATAL_ERROR "lnfree: the ${name} need ${package}, which was not found; run "
      "examples/install_dependencies.sh ${group}, or configure with -D LNFREE_BUILD_${kind}=OFF")
  endif()
endfunction()

lnfree_programs_default(EXAMPLES build CLI11)
lnfree_programs_default(TESTS "build test" Boost 1.74 COMPONENTS unit_test_framework context)
