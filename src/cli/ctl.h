/** `connpipe ctl`: asking a running process through its control socket (see ../observe/admin.h). */
#ifndef CLI_CTL_H
#define CLI_CTL_H

#include <jansson.h>

/** Answers as tables on stdout, in ctl_print.c. Members that are missing show as 0 or "-": another version of the
 * program may have answered. */
void ctl_print_status(const json_t *answer);
void ctl_print_pipes(const json_t *answer);

/** Send `command` to the process that runs with configuration directory `directory`, wait for the answer.
 * @return a new reference, or NULL after one sentence on stderr. In ctl_client.c */
json_t *ctl_ask(const char *directory, const json_t *command);

#endif
