/** Settling what a `struct cp_sniff` asks for with the bytes that a request has so far. See connpipe/sniff.h.
 *
 * Time counts from the first call that could not settle everything, for all sniffing of the request. */
#ifndef ROUTE_SNIFFING_H
#define ROUTE_SNIFFING_H

#include "request.h"

#include <connpipe/sniff.h>

/** Look at the bytes.
 * @param wait_ms  set when it returns false: ask again after this time at the latest, or with more bytes; 0: only then
 * @return whether everything is settled: the facts are set */
bool sniffing_run(struct cp_request *request, const struct cp_sniff *sniff, uint64_t *wait_ms);

#endif
