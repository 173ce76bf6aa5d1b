package hlink.udf;

import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.functions.AggregateFunction;

/**
 * {@code DECAYED_SUM(value, time, half_life)}: a sum in which what is older counts less, half for each half-life, such as
 * {@code DECAYED_SUM(1.0, ts, '1 hour')} for a decayed count. It is as of the latest time that was seen; rows may come in any
 * order. Rows with a NULL do not count; no row at all gives NULL.
 */
public final class DecayedSum extends AggregateFunction<Double, DecayedSum.Sum> {
    private transient Width width;

    /** {@code sum} is as of {@code latest}, milliseconds since 1970. */
    public static final class Sum {
        public double sum = 0;
        public long latest = Long.MIN_VALUE;
        public long halfLife = 0;
        public long rows = 0;
    }

    @Override
    public Sum createAccumulator() {
        return new Sum();
    }

    @Override
    public Double getValue(Sum sum) {
        return sum.rows == 0 ? null : sum.sum;
    }

    public void accumulate(Sum sum, Double value, @DataTypeHint("TIMESTAMP(3)") LocalDateTime time, String halfLife) {
        if (time != null) {
            add(sum, value, time.toInstant(ZoneOffset.UTC).toEpochMilli(), halfLife, 1);
        }
    }

    public void accumulate(Sum sum, Double value, @DataTypeHint("TIMESTAMP_LTZ(3)") Instant time, String halfLife) {
        if (time != null) {
            add(sum, value, time.toEpochMilli(), halfLife, 1);
        }
    }

    public void retract(Sum sum, Double value, @DataTypeHint("TIMESTAMP(3)") LocalDateTime time, String halfLife) {
        if (time != null) {
            add(sum, value, time.toInstant(ZoneOffset.UTC).toEpochMilli(), halfLife, -1);
        }
    }

    public void retract(Sum sum, Double value, @DataTypeHint("TIMESTAMP_LTZ(3)") Instant time, String halfLife) {
        if (time != null) {
            add(sum, value, time.toEpochMilli(), halfLife, -1);
        }
    }

    public void merge(Sum sum, Iterable<Sum> others) {
        for (Sum other : others) {
            if (other.rows != 0) {
                sum.halfLife = other.halfLife;
                put(sum, other.sum, other.latest, other.rows);
            }
        }
    }

    private void add(Sum sum, Double value, long time, String halfLife, int sign) {
        if (value == null || halfLife == null) {
            return;
        }
        if (width == null) {
            width = new Width();
        }
        sum.halfLife = width.millis(halfLife);
        put(sum, sign * value, time, sign);
    }

    private static void put(Sum sum, double value, long time, long rows) {
        if (sum.latest == Long.MIN_VALUE) {
            sum.latest = time;
        }
        // Both as of the later of the two times: factors are never above 1.
        long later = Math.max(sum.latest, time);
        sum.sum = sum.sum * factor(later - sum.latest, sum.halfLife) + value * factor(later - time, sum.halfLife);
        sum.latest = later;
        sum.rows += rows;
    }

    private static double factor(long millis, long halfLife) {
        return Math.pow(0.5, (double) millis / halfLife);
    }
}
