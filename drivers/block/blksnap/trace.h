/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints: what becomes of the writes to an origin and the reads of an image
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM blksnap

#if !defined(BLKSNAP_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define BLKSNAP_TRACE_H

#include <linux/tracepoint.h>
#include <linux/types.h>

/* All sectors are relative to the origin, all counts are sectors of 512 bytes. */
DECLARE_EVENT_CLASS(blksnap_range,
		    TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
		    TP_ARGS(origin, sector, nr_sectors),
		    TP_STRUCT__entry(__field(dev_t, origin)
				     __field(sector_t, sector)
				     __field(sector_t, nr_sectors)
				     ),
		    TP_fast_assign(__entry->origin = origin;
				   __entry->sector = sector;
				   __entry->nr_sectors = nr_sectors;
				   ),
		    TP_printk("%d,%d %llu + %llu",
			      MAJOR(__entry->origin), MINOR(__entry->origin),
			      (unsigned long long)__entry->sector,
			      (unsigned long long)__entry->nr_sectors)
);

/* A write is held until blocks have been copied. */
DEFINE_EVENT(blksnap_range, blksnap_hold,
	     TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
	     TP_ARGS(origin, sector, nr_sectors)
);

/* A held write is submitted again. */
DEFINE_EVENT(blksnap_range, blksnap_release,
	     TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
	     TP_ARGS(origin, sector, nr_sectors)
);

/* Old data has been read into memory. */
DEFINE_EVENT(blksnap_range, blksnap_copy_done,
	     TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
	     TP_ARGS(origin, sector, nr_sectors)
);

/* Old data has reached the difference storage. */
DEFINE_EVENT(blksnap_range, blksnap_stored,
	     TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
	     TP_ARGS(origin, sector, nr_sectors)
);

/* Part of an image read has been sent to the origin or the storage. */
DEFINE_EVENT(blksnap_range, blksnap_image_remap,
	     TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
	     TP_ARGS(origin, sector, nr_sectors)
);

/* Part of an image read met the copying of its blocks and is served again. */
DEFINE_EVENT(blksnap_range, blksnap_image_again,
	     TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
	     TP_ARGS(origin, sector, nr_sectors)
);

TRACE_EVENT(blksnap_fail,
	    TP_PROTO(dev_t origin, int error),
	    TP_ARGS(origin, error),
	    TP_STRUCT__entry(__field(dev_t, origin)
			     __field(int, error)
			     ),
	    TP_fast_assign(__entry->origin = origin;
			   __entry->error = error;
			   ),
	    TP_printk("%d,%d error %d",
		      MAJOR(__entry->origin), MINOR(__entry->origin),
		      __entry->error)
);

#endif /* BLKSNAP_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
