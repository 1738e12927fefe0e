/* From where on a class is there on average: @GUARD@_THRESHOLDS (model_settings.h), one for each class. */
