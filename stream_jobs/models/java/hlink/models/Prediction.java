package hlink.models;

import org.apache.flink.table.types.DataType;

/** What a model says of a row: a class, a value, or a cluster. */
public abstract class Prediction extends ModelFunction {
    private static final long serialVersionUID = 1L;

    protected Prediction(String model) {
        super(model);
    }

    @Override
    final DataType result(Description description) {
        return description.result;
    }

    @Override
    final Object score(Scorer scorer, Description description) throws Exception {
        return scorer.prediction();
    }
}
