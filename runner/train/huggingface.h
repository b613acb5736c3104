/* huggingface.h - private to train/: a spec's gpt model and folders of transformers. */
#ifndef RP_TRAIN_HUGGINGFACE_H
#define RP_TRAIN_HUGGINGFACE_H

#include "train/train_int.h"

/* The model of a spec whose embedding has `vocab` rows. */
struct rp_hf_shape rp_hf_shape_of(const struct rp_spec *spec, int64_t vocab);
/* DATA, naming the lines to write, when the folder's model is not the spec's, or its weights are
 * not whole. */
RP_NODISCARD enum rp_status rp_hf_check_spec(const struct rp_spec *spec,
                                             const struct rp_model *model, const char *folder,
                                             struct rp_error *err);
/* Every tensor that the spec does not skip, of an open folder, to the device. */
RP_NODISCARD enum rp_status rp_hf_load_model(struct rp_trainer *trainer, struct rp_hf *hf,
                                             const struct rp_stop *stop, struct rp_error *err);

#endif
