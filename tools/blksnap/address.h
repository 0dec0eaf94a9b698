/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where clients connect to an NBD server
 *
 * A Unix socket gets its name only when there is something to connect to: until
 * then it is in a folder that no other user can enter.  It never has a mode other
 * than 0600 where others could reach it.
 *
 * The network needs a file with keys, and then all that passes is encrypted.
 */
#ifndef ADDRESS_H
#define ADDRESS_H

#include <stdbool.h>

#define ADDRESS_DEFAULT_PORT "10809"

struct address {
	const char *socket;	/* path; NULL for the network */
	char *host;		/* NULL for a socket */
	char *port;
	char *keys;		/* absolute path of the file; for the network */

	/* Those below belong to address_open() and the like. */
	char *dir;		/* for the server alone; NULL if there is none */
	char *own_socket;	/* the default, if no other was named */
	bool published;
};

int address_take_listen(const char *name, const char *text, void *to);
int address_take_keys(const char *name, const char *text, void *to);
int address_check(const struct address *address);

int address_open(struct address *address);
char *address_file(const struct address *address, const char *name);
int address_publish(struct address *address, const char *path);
void address_close(struct address *address);
char *address_uri(const struct address *address, const char *name);

#endif /* ADDRESS_H */
