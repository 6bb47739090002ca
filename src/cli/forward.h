/** `pipe` and `connect` are `run` with a configuration of one route. */
#ifndef CLI_FORWARD_H
#define CLI_FORWARD_H

/** The configuration that forwards `from` to `to`: no control socket, log to stderr.
 * @param process  further lines for [connpipe]
 * @return allocated */
char *forward_config(const char *from, const char *to, const char *process);

#endif
