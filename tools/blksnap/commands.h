/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All commands, and what their files share
 */
#ifndef COMMANDS_H
#define COMMANDS_H

#include <json.h>
#include <blksnap/blksnap.h>

#include "cmdline.h"
#include "storage.h"

extern const struct command command_backup;
extern const struct command command_restore;
extern const struct command command_verify;
extern const struct command command_list;
extern const struct command command_prune;
extern const struct command command_mount;
extern const struct command command_umount;
extern const struct command command_export;
extern const struct command command_import;
extern const struct command command_hold;
extern const struct command command_serve;
extern const struct command command_status;
extern const struct command command_top;
extern const struct command command_version;
extern const struct command command_tracker_list;
extern const struct command command_tracker_remove;
extern const struct command command_cbt_read;
extern const struct command command_cbt_extents;
extern const struct command command_cbt_mark;
extern const struct command command_snapshot_create;
extern const struct command command_snapshot_append;
extern const struct command command_snapshot_take;
extern const struct command command_snapshot_destroy;
extern const struct command command_snapshot_list;
extern const struct command command_snapshot_images;
extern const struct command command_snapshot_events;
extern const struct command command_storage_reserve;

int open_module(struct blksnap **blksnap);
int parse_with_id(struct cmdline *cl, const struct cmdline_option *options,
		  struct blk_snap_uuid *id);
int check_snapshot_exists(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			  const char *doing);
void add_cbt_info(struct json_object *object,
		  const struct blk_snap_cbt_info *info);
struct json_object *snapshot_to_json(struct blksnap *blksnap,
				     const struct blk_snap_uuid *id, bool with_cells);

#endif /* COMMANDS_H */
