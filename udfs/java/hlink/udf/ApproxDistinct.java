package hlink.udf;

import org.apache.datasketches.hll.HllSketch;
import org.apache.datasketches.hll.TgtHllType;
import org.apache.datasketches.hll.Union;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.functions.AggregateFunction;

/**
 * {@code APPROX_DISTINCT(value)}: about how many different values there are, by a HyperLogLog sketch of at most 2.5 KB for
 * each group (Apache DataSketches); the standard error is 1.6 %, and small counts are exact. NULL does not count. Values
 * cannot be taken back, so it does not go over changing rows.
 */
public final class ApproxDistinct extends AggregateFunction<Long, ApproxDistinct.Seen> {
    static final int LOG_K = 12;
    static final TgtHllType TYPE = TgtHllType.HLL_4;

    /** The sketch of a group. */
    public static final class Seen {
        @DataTypeHint(value = "RAW", bridgedTo = HllSketch.class, rawSerializer = HllSketchSerializer.class)
        public HllSketch sketch = new HllSketch(LOG_K, TYPE);
    }

    @Override
    public Seen createAccumulator() {
        return new Seen();
    }

    @Override
    public Long getValue(Seen seen) {
        return Math.round(seen.sketch.getEstimate());
    }

    public void accumulate(Seen seen, String value) {
        if (value != null) {
            // An empty text is a value, too; the sketch would leave it out.
            seen.sketch.update("\0" + value);
        }
    }

    public void accumulate(Seen seen, Long value) {
        if (value != null) {
            seen.sketch.update(value);
        }
    }

    public void accumulate(Seen seen, Double value) {
        if (value != null) {
            seen.sketch.update(value);
        }
    }

    public void merge(Seen seen, Iterable<Seen> others) {
        Union union = new Union(LOG_K);
        union.update(seen.sketch);
        others.forEach(other -> union.update(other.sketch));
        seen.sketch = union.getResult(TYPE);
    }
}
