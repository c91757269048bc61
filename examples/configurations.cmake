# The names in configurations.def, for CMake. Changing that file reconfigures the build.

set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/configurations.def)

# lnfree_names(VARIABLE MACRO): the first word of each line MACRO(...), in the file's order.
function(lnfree_names variable macro)
  file(READ ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/configurations.def text)
  string(REGEX MATCHALL "\n${macro}\\([A-Za-z0-9_]+" entries "${text}")
  list(TRANSFORM entries REPLACE "^.*\\(" "" OUTPUT_VARIABLE names)
  set(${variable} ${names} PARENT_SCOPE)
endfunction()

# lnfree_paper_table(VARIABLE): the configurations of the paper's main table.
function(lnfree_paper_table variable)
  file(READ ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/configurations.def text)
  string(REGEX MATCH "\nPAPER_TABLE\\([A-Za-z0-9_, ]+\\)" names "${text}")
  string(REGEX REPLACE "^.*\\(|\\)" "" names "${names}")
  string(REGEX MATCHALL "[A-Za-z0-9_]+" names "${names}")
  set(${variable} ${names} PARENT_SCOPE)
endfunction()
