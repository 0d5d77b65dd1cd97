/* Which source this was compiled from, so that a build that is older is not called. */
#include "vector.h"

EXPORT const char *source_digest(void) { return SOURCE_DIGEST; }
