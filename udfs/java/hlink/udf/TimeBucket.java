package hlink.udf;

import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.functions.ScalarFunction;

/**
 * {@code TIME_BUCKET(time, width)}: the start of the bucket that a time lies in, such as {@code TIME_BUCKET(ts, '15
 * minutes')}. The time is a TIMESTAMP, a TIMESTAMP_LTZ, or milliseconds since 1970 as BIGINT, and so is the answer. Buckets
 * begin at midnight, those of days at midnight, those of weeks on Monday: of the clock for TIMESTAMP, else of UTC.
 */
public final class TimeBucket extends ScalarFunction {
    private static final long WEEK = 604_800_000L;
    /** The first Monday: 1970 began on a Thursday. */
    private static final long MONDAY = 345_600_000L;

    private transient Width width;

    public @DataTypeHint("TIMESTAMP(3)") LocalDateTime eval(@DataTypeHint("TIMESTAMP(3)") LocalDateTime time, String width) {
        if (time == null || width == null) {
            return null;
        }
        long start = start(time.toInstant(ZoneOffset.UTC).toEpochMilli(), width);
        return LocalDateTime.ofEpochSecond(
                Math.floorDiv(start, 1000L), (int) Math.floorMod(start, 1000L) * 1_000_000, ZoneOffset.UTC);
    }

    public @DataTypeHint("TIMESTAMP_LTZ(3)") Instant eval(@DataTypeHint("TIMESTAMP_LTZ(3)") Instant time, String width) {
        return time == null || width == null ? null : Instant.ofEpochMilli(start(time.toEpochMilli(), width));
    }

    public Long eval(Long millis, String width) {
        return millis == null || width == null ? null : start(millis, width);
    }

    private long start(long millis, String text) {
        if (width == null) {
            width = new Width();
        }
        long length = width.millis(text);
        long origin = length % WEEK == 0 ? MONDAY : 0;
        return millis - Math.floorMod(millis - origin, length);
    }
}
