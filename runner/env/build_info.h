/* build_info.h - private to env/: what the build knows of itself. CMake writes rp_build_info.h at
 * every build (scripts/build-info.cmake); a build that does not says that it knows nothing. */
#ifndef RP_ENV_BUILD_INFO_H
#define RP_ENV_BUILD_INFO_H

#if __has_include("rp_build_info.h")
#include "rp_build_info.h"
#else
#define RP_BUILD_VERSION       "unknown"
#define RP_BUILD_COMMIT        ""
#define RP_BUILD_DIRTY         1
#define RP_BUILD_SOURCE_SHA256 "unknown"
#define RP_BUILD_COMPILER      __VERSION__
#define RP_BUILD_FLAGS         "unknown"
#define RP_BUILD_TYPE          ""
#endif

#endif
