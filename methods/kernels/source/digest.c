/* Tell which source a build was compiled from, so that Python does not call an outdated one. */
#include "vector.h"

EXPORT const char *source_digest(void) { return SOURCE_DIGEST; }
