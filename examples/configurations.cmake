# The names in configurations.def, for CMake. A change of that file configures the build anew.

set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/configurations.def)

# lnfree_names(VARIABLE MACRO): the first word of each line MACRO(...), in the file's order.
function(lnfree_names variable macro)
  file(STRINGS ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/configurations.def lines ENCODING UTF-8 REGEX "^${macro}\\([A-Za-z0-9_]+")
  set(names)
  foreach(line IN LISTS lines)
    string(REGEX MATCH "^${macro}\\(([A-Za-z0-9_]+)" _ "${line}")
    list(APPEND names ${CMAKE_MATCH_1})
  endforeach()
  set(${variable} ${names} PARENT_SCOPE)
endfunction()

# lnfree_paper_table(VARIABLE): the configurations of the paper's main table.
function(lnfree_paper_table variable)
  file(STRINGS ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/configurations.def line ENCODING UTF-8 REGEX "^PAPER_TABLE\\([A-Za-z0-9_, ]+\\)")
  string(REGEX REPLACE "^PAPER_TABLE\\((.*)\\).*$" "\\1" names "${line}")
  string(REGEX MATCHALL "[A-Za-z0-9_]+" names "${names}")
  set(${variable} ${names} PARENT_SCOPE)
endfunction()
