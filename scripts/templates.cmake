# templates.cmake - the jobs in specs/ as bytes in the program, for `reprise init`.
#
#   include(scripts/templates.cmake)
#   rp_add_templates(TARGET)            spec_templates.h for the sources of TARGET
#   cmake -DOUT=FILE -DSPECS=DIR -P scripts/templates.cmake     writes that header
if(CMAKE_SCRIPT_MODE_FILE)
  file(GLOB specs ${SPECS}/*.yaml)
  list(SORT specs)
  set(arrays "")
  set(rows "")
  set(i 0)
  foreach(spec ${specs})
    get_filename_component(name ${spec} NAME_WLE)
    file(READ ${spec} hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(APPEND arrays "static const char template_${i}[] = {${bytes}0};\n")
    string(APPEND rows "    {\"${name}\", template_${i}},\n")
    math(EXPR i "${i} + 1")
  endforeach()
  file(WRITE ${OUT} "/* Written by scripts/templates.cmake from specs/. */\n${arrays}static const struct {\n    const char *name, *text;\n} templates[] = {\n${rows}};\n")
  return()
endif()

set(RP_TEMPLATES_SCRIPT ${CMAKE_CURRENT_LIST_FILE})
function(rp_add_templates target)
  set(header ${CMAKE_BINARY_DIR}/generated/spec_templates.h)
  file(GLOB specs CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/specs/*.yaml)
  add_custom_command(OUTPUT ${header}
    COMMAND ${CMAKE_COMMAND} -DOUT=${header} -DSPECS=${CMAKE_SOURCE_DIR}/specs -P ${RP_TEMPLATES_SCRIPT}
    DEPENDS ${specs} ${RP_TEMPLATES_SCRIPT})
  target_sources(${target} PRIVATE ${header})
  target_include_directories(${target} PRIVATE ${CMAKE_BINARY_DIR}/generated)
endfunction()
