/** connpipe's public interface, all of it.
 *
 * Words, used everywhere for exactly these things:
 *   connector   knows one kind of address; binds to one and connects to one      connector.h
 *   address     what a connector can bind or connect to, text or fields          address.h
 *   subport     the name behind "!": one port carries many named services
 *   converter   a layer around a stream                                          converter.h
 *   router      maps an incoming address to target addresses                     router.h
 *   fact        what is known of a connection: by layers, by its first bytes     sniff.h
 *   system      a unit of loading with an id; exports the above                  system.h
 *   stream      one end of a pipe                                                stream.h
 *   loop        one thread's event loop, and its services                        loop.h
 *
 * Start with system.h, then with what you want to write: router.h, connector.h or converter.h with stream.h.
 * Names begin with cp_ and CP_. Headers compile as C11 and C++17. There are no variables, only functions. */
#ifndef CONNPIPE_CONNPIPE_H
#define CONNPIPE_CONNPIPE_H

#include <connpipe/abi.h>
#include <connpipe/address.h>
#include <connpipe/arena.h>
#include <connpipe/cause.h>
#include <connpipe/connector.h>
#include <connpipe/converter.h>
#include <connpipe/counter.h>
#include <connpipe/error.h>
#include <connpipe/hash.h>
#include <connpipe/log.h>
#include <connpipe/loop.h>
#include <connpipe/open.h>
#include <connpipe/router.h>
#include <connpipe/settings.h>
#include <connpipe/sniff.h>
#include <connpipe/stream.h>
#include <connpipe/system.h>
#include <connpipe/value.h>

#endif
