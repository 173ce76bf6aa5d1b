package hlink.models;

import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.types.DataType;

/** How probable the positive class is; where there is none, as of three classes, the most probable one. */
public abstract class Probability extends ModelFunction {
    private static final long serialVersionUID = 1L;

    protected Probability(String model) {
        super(model);
    }

    @Override
    final DataType result(Description description) {
        return DataTypes.DOUBLE();
    }

    @Override
    final Object score(Scorer scorer, Description description) throws Exception {
        double[] found = scorer.probabilities();
        if (description.positive >= 0) {
            return found[description.positive];
        }
        double most = found[0];
        for (double one : found) {
            most = Math.max(most, one);
        }
        return most;
    }
}
