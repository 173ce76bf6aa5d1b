package hlink.models;

import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.table.catalog.DataTypeFactory;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.ScalarFunction;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.inference.StaticArgument;
import org.apache.flink.table.types.inference.TypeInference;
import org.apache.flink.table.types.inference.TypeStrategies;

/**
 * A trained model as a function of its features. A class that extends it names the model, whose files {@code <model>.onnx}
 * and {@code <model>.json} lie beside that class.
 *
 * <p>A row that lacks a value gives NULL, unless the model works with missing values.
 *
 * <p>onnxruntime is touched by {@link Scorer} alone, and only where rows are scored: planning needs nothing of it.
 */
public abstract class ModelFunction extends ScalarFunction {
    private static final long serialVersionUID = 1L;

    private final String model;
    private transient Description description;
    private transient Scorer scorer;

    protected ModelFunction(String model) {
        this.model = model;
    }

    /** The type of what it gives. */
    abstract DataType result(Description description);

    /** What it gives of the row that was put into the scorer. */
    abstract Object score(Scorer scorer, Description description) throws Exception;

    @Override
    public TypeInference getTypeInference(DataTypeFactory types) {
        Description known = description();
        List<StaticArgument> arguments = new ArrayList<>();
        for (int i = 0; i < known.arguments.length; i++) {
            arguments.add(StaticArgument.scalar(known.arguments[i], known.types[i], false));
        }
        return TypeInference.newBuilder()
                .staticArguments(arguments)
                .outputTypeStrategy(TypeStrategies.explicit(result(known)))
                .build();
    }

    /** Constants are not worth loading a model, and a native library, into the planner. */
    @Override
    public boolean supportsConstantFolding() {
        return false;
    }

    @Override
    public void open(FunctionContext context) throws Exception {
        Description known = description();
        try (InputStream file = getClass().getResourceAsStream(model + ".onnx")) {
            if (file == null) {
                throw new IllegalStateException("the jar of model " + model + " lacks the model");
            }
            scorer = new Scorer(file.readAllBytes(), known);
        } catch (LinkageError e) {
            // Not as its cause: the deepest one is what is told of a job that failed.
            IllegalStateException failure = new IllegalStateException(
                    "onnxruntime cannot be loaded into this TaskManager (" + System.getProperty("os.name") + ", "
                            + System.getProperty("os.arch") + "). It needs Linux with glibc, macOS on ARM or Windows, a folder "
                            + System.getProperty("java.io.tmpdir") + " from which programs can be run, and its jar, which is "
                            + "best put into Flink's lib folder: " + e);
            failure.addSuppressed(e);
            throw failure;
        }
    }

    @Override
    public void close() throws Exception {
        if (scorer != null) {
            scorer.close();
            scorer = null;
        }
    }

    public Object eval(Object... row) throws Exception {
        for (int i = 0; i < row.length; i++) {
            if (!scorer.put(i, row[i])) {
                return null;
            }
        }
        return score(scorer, description);
    }

    private Description description() {
        if (description == null) {
            description = Description.of(getClass(), model);
        }
        return description;
    }
}
