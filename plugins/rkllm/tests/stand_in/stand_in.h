// The binary interface of librkllmrt.so in four releases, restated by us from what is publicly known of it: names,
// order and types of fields. ERA 0: 1.1.x; 1: 1.2.0; 2: 1.2.1 to 1.2.3; 3: 1.3.0, and with AUDIO=1 1.3.1.
//
// Written apart from layout.py, out of the sizes and offsets alone that are asserted below: that the two agree is
// evidence.
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef ERA
#error "say which release: -DERA=0 (1.1), 1 (1.2.0), 2 (1.2.1), 3 (1.3)"
#endif
#ifndef AUDIO
#define AUDIO 0
#endif
static_assert(ERA >= 0 && ERA <= 3, "there are four");
static_assert(AUDIO == 0 || ERA == 3, "only 1.3.1 hears");
static_assert(sizeof(void*) == 8 && sizeof(long) == 8, "64-bit Linux");

extern "C" {

using LLMHandle = void*;

enum LLMCallState : int { RUN_NORMAL, RUN_WAITING, RUN_FINISH, RUN_ERROR, RUN_HIDDEN /* 1.1 alone */ };
enum RKLLMInputType : int { INPUT_PROMPT, INPUT_TOKEN, INPUT_EMBED, INPUT_MULTIMODAL };
enum RKLLMInferMode : int { INFER_GENERATE, INFER_HIDDEN, INFER_LOGITS /* since 1.2.0 */ };

struct RKLLMExtendParam {
    int32_t base_domain_id;
#if ERA == 0
    uint8_t reserved[112];
#else
    int8_t embed_flash;
    int8_t enabled_cpus_num;
    uint32_t enabled_cpus_mask;
#if ERA == 1
    uint8_t reserved[106];
#else
    uint8_t n_batch;
    int8_t use_cross_attn;
    uint8_t reserved[104];
#endif
#endif
};

struct RKLLMParam {
    const char* model_path;
    int32_t max_context_len;
    int32_t max_new_tokens;
    int32_t top_k;
#if ERA >= 1
    int32_t n_keep;
#endif
    float top_p;
    float temperature;
    float repeat_penalty;
    float frequency_penalty;
    float presence_penalty;
    int32_t mirostat;
    float mirostat_tau;
    float mirostat_eta;
    bool skip_special_token;
#if ERA >= 3
    bool ignore_eos_token;
    bool is_async;
#else
    bool is_async;
    const char* img_start;
    const char* img_end;
    const char* img_content;
#endif
    RKLLMExtendParam extend_param;
};

struct RKLLMLoraAdapter {
    const char* lora_adapter_path;
    const char* lora_adapter_name;
    float scale;
};

struct RKLLMEmbedInput {
    float* embed;
    size_t n_tokens;
};

struct RKLLMTokenInput {
    int32_t* input_ids;
    size_t n_tokens;
};

#if ERA >= 3
struct RKLLMImageInput {
    float* image_embed;
    size_t n_image_tokens;
    size_t n_image;
    const char* image_start;
    const char* image_end;
    const char* image_content;
    size_t image_width;
    size_t image_height;
};

struct RKLLMVideoInput {
    float* video_embed;
    size_t n_frame_tokens;
    size_t n_frame_per_video;
    size_t n_video;
    const char* video_start;
    const char* video_end;
    const char* video_content;
    size_t frame_width;
    size_t frame_height;
};

#if AUDIO
struct RKLLMAudioInput {
    float* audio_embed;
    size_t n_audio_tokens;
    size_t n_audio;
    const char* audio_start;
    const char* audio_end;
    const char* audio_content;
};
#endif
#endif

struct RKLLMMultiModalInput {
    const char* prompt;
#if ERA <= 2
    float* image_embed;
    size_t n_image_tokens;
#if ERA == 2
    size_t n_image;
    size_t image_width;
    size_t image_height;
#endif
#else
    RKLLMImageInput image;
    RKLLMVideoInput video;
#if AUDIO
    RKLLMAudioInput audio;
#endif
#endif
};

struct RKLLMInput {
#if ERA >= 2
    const char* role;
    bool enable_thinking;
#endif
    RKLLMInputType input_type;
    union {
        const char* prompt_input;
        RKLLMEmbedInput embed_input;
        RKLLMTokenInput token_input;
        RKLLMMultiModalInput multimodal_input;
    };
};

struct RKLLMLoraParam {
    const char* lora_adapter_name;
};

struct RKLLMPromptCacheParam {
    int save_prompt_cache;
    const char* prompt_cache_path;
};

#if ERA >= 3
struct RKLLMSamplingParam {
    int32_t top_k;
    float top_p;
    float temperature;
    float repeat_penalty;
    float frequency_penalty;
    float presence_penalty;
    int32_t mirostat;
    float mirostat_tau;
    float mirostat_eta;
};
#endif

struct RKLLMInferParam {
    RKLLMInferMode mode;
    RKLLMLoraParam* lora_params;
    RKLLMPromptCacheParam* prompt_cache_params;
#if ERA >= 3
    RKLLMSamplingParam* sampling_params;
#endif
#if ERA >= 1
    int keep_history;
#endif
#if ERA >= 3
    int32_t max_new_tokens;
#endif
};

struct RKLLMLastHiddenLayer {
    const float* hidden_states;
    int embd_size;
    int num_tokens;
};

#if ERA >= 1
struct RKLLMLogits {
    const float* logits;
    int vocab_size;
    int num_tokens;
};
#endif

#if ERA >= 2
struct RKLLMPerfStat {
    float prefill_time_ms;
    int prefill_tokens;
    float generate_time_ms;
    int generate_tokens;
    float memory_usage_mb;
};

struct RKLLMCrossAttnParam {
    float* encoder_k_cache;
    float* encoder_v_cache;
    float* encoder_mask;
    int32_t* encoder_pos;
    int num_tokens;
};
#endif

struct RKLLMResult {
    const char* text;
    int32_t token_id;
    RKLLMLastHiddenLayer last_hidden_layer;
#if ERA >= 1
    RKLLMLogits logits;
#endif
#if ERA >= 2
    RKLLMPerfStat perf;
#endif
};

#if ERA >= 2
using LLMResultCallback = int (*)(RKLLMResult*, void*, LLMCallState);
#else
using LLMResultCallback = void (*)(RKLLMResult*, void*, LLMCallState);
#endif

#if ERA >= 3
struct RKLLMCallback {
    LLMResultCallback result_callback;
    void* result_userdata;
    int (*tokenizer_callback)(void*, const char*, int32_t, int32_t*, int32_t);
    void* tokenizer_userdata;
    int (*embed_callback)(void*, int32_t*, uint64_t, void*, uint64_t);
    void* embed_userdata;
};
using InitCallback = RKLLMCallback*;
#else
using InitCallback = LLMResultCallback;
#endif

#define OUT __attribute__((visibility("default")))

OUT RKLLMParam rkllm_createDefaultParam();
OUT int rkllm_init(LLMHandle*, RKLLMParam*, InitCallback);
OUT int rkllm_load_lora(LLMHandle, RKLLMLoraAdapter*);
OUT int rkllm_load_prompt_cache(LLMHandle, const char* path);
OUT int rkllm_release_prompt_cache(LLMHandle);
OUT int rkllm_destroy(LLMHandle);
OUT int rkllm_run(LLMHandle, RKLLMInput*, RKLLMInferParam*, void* userdata);
OUT int rkllm_run_async(LLMHandle, RKLLMInput*, RKLLMInferParam*, void* userdata);
OUT int rkllm_abort(LLMHandle);
OUT int rkllm_is_running(LLMHandle);
#if ERA >= 1
OUT int rkllm_set_chat_template(LLMHandle, const char* system, const char* prefix, const char* postfix);
#endif
#if ERA == 1
OUT int rkllm_clear_kv_cache(LLMHandle, int keep_system_prompt);
#endif
#if ERA >= 2
OUT int rkllm_clear_kv_cache(LLMHandle, int keep_system_prompt, int* start, int* end);
OUT int rkllm_get_kv_cache_size(LLMHandle, int* sizes);
OUT int rkllm_set_function_tools(LLMHandle, const char* system, const char* tools, const char* response);
OUT int rkllm_set_cross_attn_params(LLMHandle, RKLLMCrossAttnParam*);
#endif

// No release has these two: they say that this is no library of Rockchip's.
OUT extern const char anyform_rkllm_stand_in[];
// Writes a line "Structure.field offset size" for each field, "Structure - size" for each structure; gives the bytes it
// takes.
OUT size_t anyform_rkllm_stand_in_layout(char* out, size_t room);

} // extern "C"

constexpr size_t by_era(size_t v11, size_t v120, size_t v121, size_t v13) {
    return ERA == 0 ? v11 : ERA == 1 ? v120 : ERA == 2 ? v121 : v13;
}

#define SIZE(type, ...) static_assert(sizeof(type) == by_era(__VA_ARGS__), #type " has another size")
#define AT(type, field, ...) \
    static_assert(offsetof(type, field) == by_era(__VA_ARGS__), #type "." #field " is elsewhere")

SIZE(RKLLMExtendParam, 116, 120, 120, 120);
SIZE(RKLLMParam, 200, 208, 208, 184);
SIZE(RKLLMMultiModalInput, 24, 24, 48, 144 + 48 * AUDIO);
SIZE(RKLLMInput, 32, 32, 64, 160 + 48 * AUDIO);
SIZE(RKLLMInferParam, 24, 32, 32, 40);
SIZE(RKLLMResult, 32, 48, 72, 72);
SIZE(RKLLMLoraAdapter, 24, 24, 24, 24);
SIZE(RKLLMPromptCacheParam, 16, 16, 16, 16);
AT(RKLLMParam, top_k, 16, 16, 16, 16);
AT(RKLLMParam, top_p, 20, 24, 24, 24);
AT(RKLLMParam, mirostat_eta, 48, 52, 52, 52);
AT(RKLLMParam, skip_special_token, 52, 56, 56, 56);
AT(RKLLMParam, is_async, 53, 57, 57, 58);
AT(RKLLMParam, extend_param, 80, 88, 88, 60);
AT(RKLLMInput, input_type, 0, 0, 12, 12);
AT(RKLLMInput, prompt_input, 8, 8, 16, 16);
AT(RKLLMInferParam, lora_params, 8, 8, 8, 8);
AT(RKLLMInferParam, prompt_cache_params, 16, 16, 16, 16);
AT(RKLLMResult, token_id, 8, 8, 8, 8);
AT(RKLLMResult, last_hidden_layer, 16, 16, 16, 16);
#if ERA <= 2
AT(RKLLMParam, img_start, 56, 64, 64, 0);
#else
AT(RKLLMParam, ignore_eos_token, 0, 0, 0, 57);
AT(RKLLMInferParam, sampling_params, 0, 0, 0, 24);
AT(RKLLMInferParam, max_new_tokens, 0, 0, 0, 36);
SIZE(RKLLMSamplingParam, 0, 0, 0, 36);
static_assert(sizeof(RKLLMCallback) == 48, "RKLLMCallback has another size");
#endif
#if ERA >= 1
AT(RKLLMExtendParam, enabled_cpus_mask, 0, 8, 8, 8);
AT(RKLLMInferParam, keep_history, 0, 24, 24, 32);
AT(RKLLMResult, logits, 0, 32, 32, 32);
#endif
#if ERA >= 2
AT(RKLLMExtendParam, n_batch, 0, 0, 12, 12);
AT(RKLLMInput, enable_thinking, 0, 0, 8, 8);
AT(RKLLMResult, perf, 0, 0, 48, 48);
SIZE(RKLLMPerfStat, 0, 0, 20, 20);
#endif

#undef SIZE
#undef AT
