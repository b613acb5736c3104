# build-info.cmake - what `env` prints of the code: commit, whether the sources differ from it, a hash of
# the sources, compiler and flags. Included by CMakeLists.txt it defines rp_add_build_info(TARGET); run
# as a script, at every build, it writes rp_build_info.h, and touches it only when something changed.

if(NOT CMAKE_SCRIPT_MODE_FILE)
  set(RP_BUILD_INFO_SCRIPT ${CMAKE_CURRENT_LIST_FILE})

  # rp_add_build_info(TARGET): its sources may include "rp_build_info.h".
  function(rp_add_build_info target)
    string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
    get_target_property(options rp_options INTERFACE_COMPILE_OPTIONS)
    list(JOIN options " " options)
    string(STRIP "${CMAKE_C_FLAGS} ${CMAKE_C_FLAGS_${type}} ${options}" flags)
    set(folder ${CMAKE_BINARY_DIR}/generated)
    # Through a file: flags on a command line would have to survive a shell.
    file(CONFIGURE OUTPUT ${folder}/build-info-in.cmake @ONLY CONTENT [==[
set(source [=[@CMAKE_SOURCE_DIR@]=])
set(header [=[@folder@/rp_build_info.h]=])
set(compiler [=[@CMAKE_C_COMPILER_ID@ @CMAKE_C_COMPILER_VERSION@]=])
set(flags [=[@flags@]=])
set(type [=[@CMAKE_BUILD_TYPE@]=])
set(version [=[@PROJECT_VERSION@]=])
]==])
    add_custom_target(rp_build_info BYPRODUCTS ${folder}/rp_build_info.h
      COMMAND ${CMAKE_COMMAND} -D in=${folder}/build-info-in.cmake -P ${RP_BUILD_INFO_SCRIPT}
      COMMENT "Looking at the state of the sources" VERBATIM)
    add_dependencies(${target} rp_build_info)
    target_include_directories(${target} PRIVATE ${folder})
  endfunction()
  return()
endif()

include(${in})

# Content of every source that enters a program, by path in bytewise order.
file(GLOB_RECURSE files RELATIVE ${source} LIST_DIRECTORIES false
     ${source}/kernels/*.c ${source}/kernels/*.h ${source}/kernels/*.def ${source}/kernels/*.cu ${source}/kernels/*.cuh
     ${source}/runner/*.c ${source}/runner/*.h ${source}/runner/*.def)
list(APPEND files CMakeLists.txt)
list(SORT files COMPARE STRING CASE SENSITIVE)
set(all "")
foreach(file IN LISTS files)
  file(SHA256 ${source}/${file} hash)
  string(APPEND all "${hash}  ${file}\n")
endforeach()
string(SHA256 source_hash "${all}")

# The commit, where `source` is the top of a git work tree and not a folder in somebody else's.
set(commit "")
set(dirty 0)
find_program(git_program git)
if(git_program AND EXISTS ${source}/.git)
  # Variables that a git hook sets would point elsewhere.
  foreach(name GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE)
    unset(ENV{${name}})
  endforeach()
  execute_process(COMMAND ${git_program} -C ${source} rev-parse HEAD
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(failed)
    set(commit "")
  else()
    execute_process(COMMAND ${git_program} -C ${source} --no-optional-locks status --porcelain -- kernels runner CMakeLists.txt
                    OUTPUT_VARIABLE changes OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(changes)
      set(dirty 1)
    endif()
  endif()
endif()

foreach(name compiler flags type version)
  string(REPLACE "\\" "\\\\" ${name} "${${name}}")
  string(REPLACE "\"" "\\\"" ${name} "${${name}}")
endforeach()
file(CONFIGURE OUTPUT ${header} @ONLY CONTENT [==[
/* Written by scripts/build-info.cmake at every build. */
#define RP_BUILD_VERSION "@version@"
#define RP_BUILD_COMMIT "@commit@"
#define RP_BUILD_DIRTY @dirty@
#define RP_BUILD_SOURCE_SHA256 "@source_hash@"
#define RP_BUILD_COMPILER "@compiler@"
#define RP_BUILD_FLAGS "@flags@"
#define RP_BUILD_TYPE "@type@"
]==])
