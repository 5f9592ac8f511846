// A STAND-IN for Rockchip's librkllmrt.so, for tests alone: no NPU, no model, no line of theirs. It has their interface
// (stand_in.h), and answers by rules, so that a field read from a wrong place shows in the answer.
//
// The model is a file with a line in it (anyform.testing.rkllm writes such files), without which it is an
// "invalid rkllm model!":
//   STANDIN {"context":4096,"platform":"RK3588","dtype":"W8A8","toolkit":"1.2.3","width":8,"vocab":512}
// More that the line may say:
//   "cores":3, "driver":"0.9.8"   as they are printed at init
//   "board":"RK3576"              where the library believes to be; else what the environment's ANYFORM_STAND_IN_BOARD
//                                 says, else RK3588
//   "thread":1                    rkllm_run too calls back from a thread of the library's own; so it does where the
//                                 environment has ANYFORM_STAND_IN_THREAD=1
//   "finish":1                    an aborted run ends with FINISH; else with no call back
//   "quiet":1, "fail":1, "crash":1   init prints nothing; gives -1 without a word; kills the process
//
// An answer, where the prompt does not steer it (all of it one line):
//   ROLE|THINKING|TYPE|PROMPT|k=40 p=0.90 t=0.80 r=1.10 f=0.00 e=0.00 m=0 5.00 0.10|h=H|n=N|lora=NAME*SCALE
//   |tools=SYSTEM~TOOLS~RESPONSE|tmpl=SYSTEM~PREFIX~POSTFIX|cache=TEXT
//   and for pictures  |img=COUNT*TOKENS WIDTHxHEIGHT SUM START~CONTENT~END
// ROLE: "-" before 1.2.1. TYPE: prompt, token, embed, multimodal. PROMPT: text, ids, or "ROWS SUM" of embeddings.
// h: how many runs are in the history. n: the most tokens of this run. tmpl=model until rkllm_set_chat_template.
// SUM: FNV-1a over the bytes of the embeddings, 8 hexadecimal digits.
//
// Words in the prompt steer it: in its last turn, which begins behind the last "<|user|>", or "<|im_start|>" that is
// not the assistant's, where it has one. Tokens are read as anyform.testing.rkllm's tokenizer writes them: below 256
// bytes, then MARKERS.
//   !say TEXT   answers TEXT, up to a "<|" or the end. It stands last.
//   !count N    answers "1 2 3 ... N", a token a number
//   !recall     answers the prompts in the history, joined by " / "
//   !slow MS    waits MS before each token     !hang   gives one token, then none until aborted
//   !crash      aborts the process half way    !error  ends half way with ERROR; rkllm_run returns -1
//   !fail       rkllm_run returns -1 at once, with no callback
//   !null       NULL texts between; parts of characters are held back, NULL in their place
// Text goes out 2 bytes a token, id: its first byte; WAITING with tokens that leave a character incomplete. The texts,
// and all numbers, are overwritten when the callback returns. Figures come with FINISH alone; before, they are -1.
//
// A callback that returns 1 pauses: rkllm_run returns 0, nothing more is called; the next rkllm_run gives the REST of
// that answer, whatever it is asked, unless rkllm_abort or rkllm_clear_kv_cache came between. 2 is taken as 0.
#include "stand_in.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using std::string;

#if ERA == 0
#define VERSION "1.1.4"
#elif ERA == 1
#define VERSION "1.2.0"
#elif ERA == 2
#define VERSION "1.2.3"
#elif !AUDIO
#define VERSION "1.3.0"
#else
#define VERSION "1.3.1"
#endif

extern "C" const char anyform_rkllm_stand_in[] = "anyform_rkllm_stand_in";
extern "C" __attribute__((used)) const char anyform_rkllm_sdk[] =
    "RKLLM SDK (version: " VERSION " | target: STAND-IN | build: anyform tests)";

namespace {

// What is said. stdout is left to its buffer, as a library that knows nothing of who listens would.

#define LIKE_PRINTF __attribute__((format(printf, 1, 2)))

LIKE_PRINTF void inform(const char* form, ...) {
    va_list args;
    va_start(args, form);
    std::printf("I rkllm: ");
    std::vprintf(form, args);
    std::printf("\n");
    va_end(args);
}

LIKE_PRINTF int fail(const char* form, ...) {
    va_list args;
    va_start(args, form);
    std::fprintf(stderr, "E rkllm: ");
    std::vfprintf(stderr, form, args);
    std::fprintf(stderr, "\n");
    va_end(args);
    return -1;
}

string text(const char* given) {
    return given ? given : "";
}

LIKE_PRINTF string printed(const char* form, ...) {
    char out[256];
    va_list args;
    va_start(args, form);
    std::vsnprintf(out, sizeof out, form, args);
    va_end(args);
    return out;
}

string sum(const void* data, size_t bytes) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ static_cast<const uint8_t*>(data)[i]) * 16777619u;
    return printed("%08x", hash);
}

// The file that says what the model is.

struct Facts {
    string line;

    string word(const char* name, const string& otherwise) const {
        size_t at = line.find("\"" + string(name) + "\":");
        if (at == string::npos) return otherwise;
        at = line.find_first_not_of(' ', at + std::strlen(name) + 3);
        if (line[at] != '"') return line.substr(at, line.find_first_of(",}", at) - at);
        return line.substr(at + 1, line.find('"', at + 1) - at - 1);
    }
    int number(const char* name, int otherwise) const {
        string found = word(name, std::to_string(otherwise));
        return found == "true" ? 1 : std::atoi(found.c_str());
    }
};

bool read(const string& path, string& out) {
    FILE* file = std::fopen(path.c_str(), "rb");
    if (!file) return false;
    char part[65536];
    for (size_t n; (n = std::fread(part, 1, sizeof part, file)) > 0;) out.append(part, n);
    std::fclose(file);
    return true;
}

bool facts(const string& path, Facts& out) {
    string all;
    if (!read(path, all)) return false;
    size_t at = all.find("STANDIN {");
    if (at == string::npos) return false;
    size_t end = all.find('}', at);
    if (end == string::npos) return false;
    out.line = all.substr(at, end - at + 1);
    return true;
}

long rank(const string& version) {
    int a = 0, b = 0, c = 0;
    return std::sscanf(version.c_str(), "%d.%d.%d", &a, &b, &c) == 3 ? a * 10000L + b * 100 + c : 0;
}

// What a run is asked, once it is copied from the caller's memory.

struct Sampling {
    int k = 40, mirostat = 0;
    float p = 0.9f, t = 0.8f, repeat = 1.1f, frequency = 0, presence = 0, tau = 5, eta = 0.1f;

    template <typename From>
    static Sampling of(const From& from) {
        Sampling s;
        s.k = from.top_k, s.mirostat = from.mirostat, s.p = from.top_p, s.t = from.temperature;
        s.repeat = from.repeat_penalty, s.frequency = from.frequency_penalty, s.presence = from.presence_penalty;
        s.tau = from.mirostat_tau, s.eta = from.mirostat_eta;
        return s;
    }
    string shown() const {
        string first = printed("k=%d p=%.2f t=%.2f r=%.2f f=%.2f e=%.2f", k, p, t, repeat, frequency, presence);
        return first + printed(" m=%d %.2f %.2f", mirostat, tau, eta);
    }
};

struct Asked {
    string role = "-", type, prompt; // prompt: as the answer shows it
    string steer;                    // where words are looked for
    string picture;
    bool thinking = false, keep = false;
    int mode = INFER_GENERATE, most = 0;
    std::vector<int32_t> ids;
    Sampling sampling;
    string lora, save;
};

struct Kept {
    string prompt;
    size_t tokens;
};

struct Answer {
    std::vector<string> pieces;
    size_t next = 0;
    int slow = 0;
    bool hang = false, crash = false, error = false, nulls = false, paused = false;
    Asked asked;
};

struct Model {
    Facts facts;
    int context = 0, most = 0, width = 8, vocabulary = 512;
    bool thread = false, skip = false;
    Sampling sampling;
    string start, end, content; // img_*, up to 1.2.3
    LLMResultCallback callback = nullptr;
    void* userdata = nullptr;
    std::map<string, float> loras;
    string cache, tools, form = "model";
    std::vector<Kept> history;
    Answer answer;
    std::atomic<bool> running{false};
    std::mutex lock;
    std::condition_variable woken;
    bool aborted = false;
    std::thread worker;

    ~Model() {
        if (worker.joinable()) worker.join();
    }
    size_t kept() const {
        size_t n = 0;
        for (const Kept& one : history) n += one.tokens;
        return n;
    }
    bool stopped() {
        std::lock_guard<std::mutex> held(lock);
        return aborted;
    }
    // Waits, and says whether it was aborted; ms < 0: until it is.
    bool wait(int ms) {
        std::unique_lock<std::mutex> held(lock);
        auto ended = [this] { return aborted; };
        if (ms < 0) return woken.wait(held, ended), true;
        return woken.wait_for(held, std::chrono::milliseconds(ms), ended);
    }
};

Model* of(LLMHandle handle) {
    return static_cast<Model*>(handle);
}

// One call back. All that it is given is its own, and spoilt afterwards.

struct Told {
    LLMCallState state = RUN_NORMAL;
    const string* text = nullptr;
    int32_t id = 0;
    std::vector<float> hidden, logits;
    int rows = 0, prompt = -1, generated = -1;
};

int tell(Model& model, void* userdata, Told told) {
    std::vector<char> bytes;
    if (told.text) bytes.assign(told.text->c_str(), told.text->c_str() + told.text->size() + 1);
    RKLLMResult result;
    std::memset(&result, 0, sizeof result);
    result.text = told.text ? bytes.data() : nullptr;
    result.token_id = told.id;
    if (!told.hidden.empty()) result.last_hidden_layer = {told.hidden.data(), model.width, told.rows};
#if ERA >= 1
    if (!told.logits.empty()) result.logits = {told.logits.data(), model.vocabulary, told.rows};
#endif
#if ERA >= 2
    bool ended = told.generated >= 0;
    result.perf = {ended ? 2.0f * static_cast<float>(told.prompt) : -1, told.prompt,
                   ended ? 10.0f * static_cast<float>(told.generated) : -1, told.generated, ended ? 512.5f : -1};
#endif
    int said = 0;
#if ERA >= 2
    said = model.callback(&result, userdata, told.state);
#else
    model.callback(&result, userdata, told.state);
#endif
    std::memset(&result, 0xA5, sizeof result);
    std::fill(bytes.begin(), bytes.end(), '#');
    std::fill(told.hidden.begin(), told.hidden.end(), -777.0f);
    std::fill(told.logits.begin(), told.logits.end(), -777.0f);
    return said;
}

// Rows of a last layer: each depends on its token and, fading, on those before it.
std::vector<float> states(const std::vector<int32_t>& ids, int width) {
    std::vector<float> out, row(width, 0.0f);
    for (int32_t id : ids)
        for (int j = 0; j < width; j++) {
            uint32_t mixed = (static_cast<uint32_t>(id) * 2654435761u) ^ (static_cast<uint32_t>(j + 1) * 40503u);
            row[j] = 0.5f * row[j] + static_cast<float>(mixed % 2001u) / 1000.0f - 1.0f;
            out.push_back(row[j]);
        }
    return out;
}

bool whole(const string& text) { // whether it ends with a whole character
    size_t i = text.size();
    for (int back = 1; i > 0 && back <= 4; back++) {
        uint8_t byte = text[--i];
        if (byte < 0x80) return true;
        if (byte >= 0xC0) return back >= (byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2);
    }
    return true;
}

// What is answered.

string last_turn(const string& prompt) {
    size_t found = 0;
    for (const string mark : {"<|im_start|>", "<|user|>"})
        for (size_t at = 0; (at = prompt.find(mark, at)) != string::npos;) {
            at += mark.size();
            if (prompt.compare(at, 9, "assistant") != 0) found = std::max(found, at);
        }
    return prompt.substr(found);
}

bool has(const string& words, const char* word, string* rest = nullptr) {
    size_t at = words.find(word), n = std::strlen(word);
    if (at == string::npos || (at + n < words.size() && std::isalpha(static_cast<unsigned char>(words[at + n]))))
        return false;
    if (rest) *rest = words.substr(std::min(words.size(), at + n + 1));
    return true;
}

string told(const Model& model, const Asked& asked) {
    string out = asked.role + "|" + (asked.thinking ? "1" : "0") + "|" + asked.type + "|" + asked.prompt + "|" +
                 asked.sampling.shown();
    out += "|h=" + std::to_string(model.history.size()) + "|n=" + std::to_string(asked.most) + "|lora=" + asked.lora;
    return out + "|tools=" + model.tools + "|tmpl=" + model.form + "|cache=" + model.cache + asked.picture;
}

Answer answer(const Model& model, const Asked& asked) {
    Answer made;
    made.asked = asked;
    string words = last_turn(asked.steer), rest;
    size_t saying = words.find("!say ");
    string before = words.substr(0, saying);
    if (has(before, "!slow", &rest)) made.slow = std::atoi(rest.c_str());
    made.hang = has(before, "!hang"), made.crash = has(before, "!crash");
    made.error = has(before, "!error"), made.nulls = has(before, "!null");
    string all;
    if (has(before, "!count", &rest)) {
        for (int i = 1, n = std::atoi(rest.c_str()); i <= n; i++)
            made.pieces.push_back((i > 1 ? " " : "") + std::to_string(i));
        return made;
    }
    if (saying != string::npos)
        all = words.substr(saying + 5, words.find("<|", saying) - saying - 5);
    else if (has(before, "!recall"))
        for (const Kept& one : model.history) all += (all.empty() ? "" : " / ") + one.prompt;
    else
        all = told(model, asked);
    for (size_t i = 0; i < all.size(); i += 2) made.pieces.push_back(all.substr(i, 2));
    return made;
}

// A run, from its copied request to its last call back. Gives what rkllm_run returns.

int vectors(Model& model, const Asked& asked, void* userdata) {
    Told rows;
    rows.rows = static_cast<int>(asked.ids.size());
    if (asked.mode == INFER_HIDDEN) {
        rows.hidden = states(asked.ids, model.width);
        if (ERA == 0) rows.state = RUN_HIDDEN;
    } else {
        rows.logits = states(asked.ids, model.vocabulary);
    }
    tell(model, userdata, rows);
    Told end;
    end.state = RUN_FINISH, end.prompt = rows.rows, end.generated = 0;
    tell(model, userdata, end);
    return 0;
}

size_t prefilled(const Model& model, const Asked& asked) {
    bool cached = !model.cache.empty() && asked.steer.rfind(model.cache, 0) == 0;
    return asked.ids.size() - (cached ? std::min(asked.ids.size(), model.cache.size()) : 0);
}

int broken(Model& model, void* userdata) {
    if (model.answer.crash) std::abort();
    Told end;
    end.state = RUN_ERROR;
    tell(model, userdata, end);
    return fail("the NPU reported an error (stand-in)");
}

int generate(Model& model, void* userdata) {
    Answer& answer = model.answer;
    const Asked& asked = answer.asked;
    answer.paused = false;
    size_t room = model.context - std::min<size_t>(model.context, model.kept() + asked.ids.size());
    size_t most = std::min(room, asked.most > 0 ? static_cast<size_t>(asked.most) : room);
    size_t total = std::min(most, answer.pieces.size());
    string held;    // since the last whole character
    string waiting; // what !null holds back
    bool stopped = false;
    for (; answer.next < total; answer.next++) {
        size_t i = answer.next;
        if ((answer.slow && model.wait(answer.slow)) || (answer.hang && i == 1 && model.wait(-1)) || model.stopped()) {
            stopped = true;
            break;
        }
        if (i == (total + 1) / 2 && (answer.crash || answer.error)) return broken(model, userdata);
        const string& piece = answer.pieces[i];
        held += piece, waiting += piece;
        Told one;
        one.id = static_cast<uint8_t>(piece[0]);
        one.state = whole(held) ? RUN_NORMAL : RUN_WAITING;
        one.text = &piece;
        if (answer.nulls) {
            one.text = one.state == RUN_WAITING ? nullptr : &waiting;
            Told nothing;
            if (tell(model, userdata, nothing) == 1) {
                answer.paused = true;
                return 0;
            }
        }
        int said = tell(model, userdata, one);
        if (one.state == RUN_NORMAL) held.clear(), waiting.clear();
        if (said == 1) {
            answer.next++, answer.paused = true;
            return 0;
        }
    }
    if (answer.hang && !stopped && total <= 1) stopped = model.wait(-1);
    if (!stopped && (answer.crash || answer.error)) return broken(model, userdata);
    if (asked.keep) model.history.push_back({asked.prompt, asked.ids.size() + answer.next});
    if (stopped && !model.facts.number("finish", 0)) return 0;
    Told end;
    end.state = RUN_FINISH, end.prompt = static_cast<int>(prefilled(model, asked)),
    end.generated = static_cast<int>(answer.next);
    tell(model, userdata, end);
    return 0;
}

int run(Model& model, void* userdata) {
    const Asked& asked = model.answer.asked;
    int rc = asked.mode == INFER_GENERATE ? generate(model, userdata) : vectors(model, asked, userdata);
    model.running = false;
    return rc;
}

// Reading what a caller gives.

const char* const MARKERS[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>",       "<think>",        "</think>",
                               "<tool_call>",   "</tool_call>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"};

string decoded(const std::vector<int32_t>& ids) {
    string out;
    for (int32_t id : ids)
        if (id >= 0 && id < 256)
            out += static_cast<char>(id);
        else if (id >= 256 && id < 266)
            out += MARKERS[id - 256];
        else
            out += "<|" + std::to_string(id) + "|>";
    return out;
}

void as_text(Asked& asked, const string& prompt) {
    asked.prompt = asked.steer = prompt;
    for (unsigned char byte : prompt) asked.ids.push_back(byte);
}

void as_tokens(Asked& asked, const RKLLMTokenInput& given) {
    asked.type = "token";
    for (size_t i = 0; i < given.n_tokens; i++) {
        asked.ids.push_back(given.input_ids[i]);
        asked.prompt += (i ? " " : "") + std::to_string(given.input_ids[i]);
    }
    asked.steer = decoded(asked.ids);
}

void as_rows(Asked& asked, const Model& model, const RKLLMEmbedInput& given) {
    asked.type = "embed";
    asked.prompt =
        std::to_string(given.n_tokens) + " " + sum(given.embed, given.n_tokens * model.width * sizeof(float));
    asked.ids.assign(given.n_tokens, 0);
}

int as_pictures(Asked& asked, const Model& model, const RKLLMMultiModalInput& given) {
    asked.type = "multimodal";
    as_text(asked, text(given.prompt));
    size_t count = 1, width = 0, height = 0;
    string start = model.start, end = model.end, content = model.content;
#if ERA <= 2
    const float* data = given.image_embed;
    size_t tokens = given.n_image_tokens;
#if ERA == 2
    count = given.n_image, width = given.image_width, height = given.image_height;
#endif
#else
    const float* data = given.image.image_embed;
    size_t tokens = given.image.n_image_tokens;
    count = given.image.n_image, width = given.image.image_width, height = given.image.image_height;
    start = text(given.image.image_start), end = text(given.image.image_end), content = text(given.image.image_content);
    if (given.video.n_video && given.video.video_embed) return fail("the stand-in sees no videos");
#if AUDIO
    if (given.audio.n_audio && given.audio.audio_embed) return fail("the stand-in hears nothing");
#endif
#endif
    if (!data || !count || !tokens) return fail("there are no embeddings of images");
    if (asked.steer.find("<image>") == string::npos) return fail("the prompt has no <image> tag");
    asked.ids.insert(asked.ids.end(), count * tokens, 0);
    asked.picture = printed("|img=%zu*%zu %zux%zu ", count, tokens, width, height);
    asked.picture += sum(data, count * tokens * model.width * sizeof(float)) + " " + start + "~" + content + "~" + end;
    return 0;
}

int as_given(Asked& asked, const Model& model, const RKLLMInput& input) {
    switch (input.input_type) {
        case INPUT_PROMPT:
            asked.type = "prompt";
            as_text(asked, text(input.prompt_input));
            return 0;
        case INPUT_TOKEN:
            as_tokens(asked, input.token_input);
            return 0;
        case INPUT_EMBED:
            as_rows(asked, model, input.embed_input);
            return 0;
        case INPUT_MULTIMODAL:
            return as_pictures(asked, model, input.multimodal_input);
    }
    return fail("unknown input type %d", static_cast<int>(input.input_type));
}

int extras(Asked& asked, const Model& model, const RKLLMInferParam& infer) {
    asked.mode = infer.mode;
    if (asked.mode < INFER_GENERATE || asked.mode > (ERA >= 1 ? INFER_LOGITS : INFER_HIDDEN))
        return fail("unknown mode %d", asked.mode);
    asked.most = model.most, asked.sampling = model.sampling;
#if ERA >= 1
    asked.keep = infer.keep_history != 0;
#endif
#if ERA >= 3
    if (infer.sampling_params) asked.sampling = Sampling::of(*infer.sampling_params);
    if (infer.max_new_tokens > 0) asked.most = infer.max_new_tokens;
#endif
    if (infer.lora_params) {
        string name = text(infer.lora_params->lora_adapter_name);
        auto found = model.loras.find(name);
        if (found == model.loras.end()) return fail("lora adapter %s is not loaded", name.c_str());
        asked.lora = name + printed("*%.2f", found->second);
    }
    if (infer.prompt_cache_params && infer.prompt_cache_params->save_prompt_cache)
        asked.save = text(infer.prompt_cache_params->prompt_cache_path);
    return 0;
}

const char CACHE[] = "STANDIN CACHE\n";

int save(const Asked& asked) {
    if (asked.save.empty()) return 0;
    FILE* file = std::fopen(asked.save.c_str(), "wb");
    if (!file) return fail("failed to write prompt cache %s", asked.save.c_str());
    std::fprintf(file, "%s%s", CACHE, asked.steer.c_str());
    std::fclose(file);
    return 0;
}

// Readies model.answer. A paused answer goes on, whatever is asked.
int ready(Model& model, const RKLLMInput* input, const RKLLMInferParam* infer) {
    if (model.answer.paused) return 0;
    if (!input || !infer) return fail("no input");
    Asked asked;
#if ERA >= 2
    asked.role = text(input->role), asked.thinking = input->enable_thinking;
#endif
    if (as_given(asked, model, *input) || extras(asked, model, *infer)) return -1;
    if (asked.ids.empty()) return fail("the input is empty");
    if (has(last_turn(asked.steer), "!fail")) return fail("failed to run (stand-in)");
    if (!asked.keep) model.history.clear();
    size_t all = asked.ids.size() + model.kept();
    if (all >= static_cast<size_t>(model.context))
        return fail("the prompt's %zu tokens exceed max_context[%d]", all, model.context);
    if (save(asked)) return -1;
    model.answer = answer(model, asked);
    return 0;
}

int begin(Model& model, const RKLLMInput* input, const RKLLMInferParam* infer) {
    if (model.running.exchange(true)) return fail("a task is running already");
    if (model.worker.joinable()) model.worker.join();
    {
        std::lock_guard<std::mutex> held(model.lock);
        model.aborted = false;
    }
    if (ready(model, input, infer)) return model.running = false, -1;
    return 0;
}

// Starting.

string board(const Facts& facts) {
    const char* set = std::getenv("ANYFORM_STAND_IN_BOARD");
    return facts.word("board", set && *set ? set : "RK3588");
}

int accepted(const Facts& facts, int context) {
    if (rank(facts.word("toolkit", VERSION)) > rank(VERSION))
        return fail("The rkllm-runtime version is lower than the rkllm-toolkit version");
    if (facts.word("platform", "RK3588") != board(facts))
        return fail("the model's target_platform does not match the real platform");
    int limit = facts.number("context", 4096);
    if (context > limit)
        return fail("max_context[%d] must be less than the model's max_context_limit[%d]", context, limit);
    return 0;
}

void introduce(const Facts& facts) {
    inform("rkllm-runtime version: %s, rknpu driver version: %s, platform: %s", VERSION,
           facts.word("driver", "0.9.8").c_str(), board(facts).c_str());
    inform("STAND-IN: this library is part of anyform's tests and uses no NPU");
}

void describe(const Facts& facts, const RKLLMParam& param) {
    inform("rkllm-toolkit version: %s, max_context_limit: %d, npu_core_num: %d, target_platform: %s, model_dtype: %s",
           facts.word("toolkit", VERSION).c_str(), facts.number("context", 4096), facts.number("cores", 3),
           facts.word("platform", "RK3588").c_str(), facts.word("dtype", "W8A8").c_str());
    inform("STAND-IN: max_context_len=%d max_new_tokens=%d skip_special_token=%d is_async=%d base_domain_id=%d",
           param.max_context_len, param.max_new_tokens, param.skip_special_token, param.is_async,
           param.extend_param.base_domain_id);
#if ERA >= 1
    inform("STAND-IN: n_keep=%d embed_flash=%d enabled_cpus_num=%d enabled_cpus_mask=0x%x", param.n_keep,
           param.extend_param.embed_flash, param.extend_param.enabled_cpus_num, param.extend_param.enabled_cpus_mask);
#endif
#if ERA >= 2
    inform("STAND-IN: n_batch=%d use_cross_attn=%d", param.extend_param.n_batch, param.extend_param.use_cross_attn);
#endif
#if ERA >= 3
    inform("STAND-IN: ignore_eos_token=%d", param.ignore_eos_token);
#else
    inform("STAND-IN: img_start=%s img_end=%s img_content=%s", text(param.img_start).c_str(),
           text(param.img_end).c_str(), text(param.img_content).c_str());
#endif
}

} // namespace

extern "C" {

RKLLMParam rkllm_createDefaultParam() {
    RKLLMParam param;
    std::memset(static_cast<void*>(&param), 0, sizeof param);
    param.max_context_len = 4096;
    param.max_new_tokens = -1;
    param.top_k = 40;
    param.top_p = 0.9f;
    param.temperature = 0.8f;
    param.repeat_penalty = 1.1f;
    param.mirostat_tau = 5.0f;
    param.mirostat_eta = 0.1f;
    param.skip_special_token = true;
#if ERA >= 1
    param.extend_param.enabled_cpus_num = 4;
    param.extend_param.enabled_cpus_mask = 0x0F;
#endif
#if ERA >= 2
    param.extend_param.n_batch = 1;
#endif
    return param;
}

int rkllm_init(LLMHandle* handle, RKLLMParam* param, InitCallback callback) {
    if (!handle || !param) return fail("no handle or no parameters");
    *handle = nullptr;
#if ERA >= 3
    LLMResultCallback results = callback ? callback->result_callback : nullptr;
#else
    LLMResultCallback results = callback;
#endif
    Facts found;
    bool known = facts(text(param->model_path), found);
    bool quiet = known && found.number("quiet", 0);
    if (!quiet) introduce(found);
    if (!known) return fail("invalid rkllm model!");
    if (found.number("crash", 0)) std::abort();
    if (found.number("fail", 0)) return -1;
    if (accepted(found, param->max_context_len)) return -1;
    if (!results) return fail("no callback");
    if (param->max_context_len <= 0) return fail("max_context[%d] must be positive", param->max_context_len);
#if ERA >= 2
    if (param->extend_param.n_batch > 1)
        return fail("the stand-in takes one input at a time, not n_batch=%d", param->extend_param.n_batch);
#endif
    if (!quiet) describe(found, *param);
    Model* model = new Model;
    model->facts = found, model->callback = results;
    model->context = param->max_context_len, model->most = param->max_new_tokens;
    model->width = found.number("width", 8), model->vocabulary = found.number("vocab", 512);
    const char* set = std::getenv("ANYFORM_STAND_IN_THREAD");
    model->thread = found.number("thread", 0) || (set && *set == '1');
    model->sampling = Sampling::of(*param);
#if ERA >= 3
    model->userdata = callback->result_userdata;
#else
    model->start = text(param->img_start), model->end = text(param->img_end), model->content = text(param->img_content);
#endif
    *handle = model;
    return 0;
}

int rkllm_destroy(LLMHandle handle) {
    if (!handle) return -1;
    rkllm_abort(handle);
    delete of(handle);
    return 0;
}

int rkllm_run(LLMHandle handle, RKLLMInput* input, RKLLMInferParam* infer, void* userdata) {
    if (!handle) return -1;
    Model& model = *of(handle);
    if (begin(model, input, infer)) return -1;
    void* passed = userdata ? userdata : model.userdata;
    if (!model.thread) return run(model, passed);
    int rc = 0;
    std::thread([&] { rc = run(model, passed); }).join();
    return rc;
}

int rkllm_run_async(LLMHandle handle, RKLLMInput* input, RKLLMInferParam* infer, void* userdata) {
    if (!handle) return -1;
    Model& model = *of(handle);
    if (begin(model, input, infer)) return -1;
    model.worker = std::thread([&model, passed = userdata ? userdata : model.userdata] { run(model, passed); });
    return 0;
}

int rkllm_abort(LLMHandle handle) {
    if (!handle) return -1;
    Model& model = *of(handle);
    std::lock_guard<std::mutex> held(model.lock);
    if (!model.running) return model.answer.paused = false, -1;
    model.aborted = true;
    model.woken.notify_all();
    return 0;
}

int rkllm_is_running(LLMHandle handle) {
    if (!handle) return -1;
    return (ERA >= 3) == of(handle)->running ? 1 : 0; // its meaning was turned round between releases
}

int rkllm_load_lora(LLMHandle handle, RKLLMLoraAdapter* adapter) {
    if (!handle || !adapter || !adapter->lora_adapter_name) return -1;
    string ignored;
    if (!read(text(adapter->lora_adapter_path), ignored))
        return fail("failed to load lora %s", text(adapter->lora_adapter_path).c_str());
    of(handle)->loras[adapter->lora_adapter_name] = adapter->scale;
    return 0;
}

int rkllm_load_prompt_cache(LLMHandle handle, const char* path) {
    string all;
    if (!handle || !read(text(path), all) || all.rfind(CACHE, 0) != 0)
        return fail("failed to load prompt cache %s", text(path).c_str());
    of(handle)->cache = all.substr(std::strlen(CACHE));
    return 0;
}

int rkllm_release_prompt_cache(LLMHandle handle) {
    if (!handle) return -1;
    of(handle)->cache.clear();
    return 0;
}

#if ERA >= 1
int rkllm_set_chat_template(LLMHandle handle, const char* system, const char* prefix, const char* postfix) {
    if (!handle) return -1;
    of(handle)->form = text(system) + "~" + text(prefix) + "~" + text(postfix);
    return 0;
}

static int clear(LLMHandle handle) {
    if (!handle || of(handle)->running) return -1;
    of(handle)->history.clear();
    of(handle)->answer.paused = false;
    return 0;
}
#endif

#if ERA == 1
int rkllm_clear_kv_cache(LLMHandle handle, int) {
    return clear(handle);
}
#endif

#if ERA >= 2
int rkllm_clear_kv_cache(LLMHandle handle, int, int* start, int* end) {
    if (start || end) return fail("the stand-in clears all or nothing");
    return clear(handle);
}

int rkllm_get_kv_cache_size(LLMHandle handle, int* sizes) {
    if (!handle || !sizes) return -1;
    *sizes = static_cast<int>(of(handle)->kept());
    return 0;
}

int rkllm_set_function_tools(LLMHandle handle, const char* system, const char* tools, const char* response) {
    if (!handle) return -1;
    of(handle)->tools = text(system) + "~" + text(tools) + "~" + text(response);
    return 0;
}

int rkllm_set_cross_attn_params(LLMHandle, RKLLMCrossAttnParam*) {
    return fail("the stand-in attends to nothing else");
}
#endif

size_t anyform_rkllm_stand_in_layout(char* out, size_t room) {
    string all;
#define SIZE(name) all += printed("%s - %zu\n", #name, sizeof(RKLLM##name))
#define AT(name, field) \
    all += printed("%s.%s %zu %zu\n", #name, #field, offsetof(RKLLM##name, field), sizeof(RKLLM##name::field))
#include "layout.inc"
#undef SIZE
#undef AT
    if (out && room > all.size()) std::memcpy(out, all.c_str(), all.size() + 1);
    return all.size() + 1;
}

} // extern "C"
