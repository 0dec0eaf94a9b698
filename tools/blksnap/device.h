/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Block devices and their names
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/device.h"

#define DEVICE_NUMBER_SIZE 24 /* two 32-bit numbers and a colon */

/* What an argument that names a device may look like, for messages. */
#define DEVICE_FORMS \
	"a path, UUID=, LABEL=, PARTUUID=, PARTLABEL= or MAJOR:MINOR"

int device_parse(const char *text, struct blk_snap_dev *dev);
int device_parse_list(char **texts, int nr_texts, struct blk_snap_dev **devs);

void device_make_name(const char *device, char *name, size_t size);
void device_format_number(struct blk_snap_dev dev,
			  char text[DEVICE_NUMBER_SIZE]);
bool device_is_image(struct blk_snap_dev dev);
const char *device_obstacle(struct blk_snap_dev dev);
bool sysfs_read_line(const char *path, char *line, int size);

#endif /* DEVICE_H */
