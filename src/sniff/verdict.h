/** What bytes at the beginning of a stream say, for each thing that they could be. Parsers here are pure: they look at
 * the bytes so far, from the first one, and keep nothing; called again with more of them, an answer that was certain
 * stays the same. Any thread. */
#ifndef SNIFF_VERDICT_H
#define SNIFF_VERDICT_H

enum verdict {
	VERDICT_NO,    /* certainly not */
	VERDICT_MAYBE, /* more bytes will tell */
	VERDICT_YES,   /* certainly */
};

#endif
