"""Prompts of every chat template: what transformers renders from the published Jinja texts (without their branches for
tools, which are never taken here), and what the published programs of the others build.
"""

QWEN_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

# Qwen/Qwen2-0.5B-Instruct, tokenizer_config.json
QWEN2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Qwen/Qwen2.5-7B-Instruct, tokenizer_config.json (HuatuoGPT-o1-7B has the same)
QWEN25 = r"""{%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
    {%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant") %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
# Qwen/Qwen3-0.6B, tokenizer_config.json
QWEN3 = r"""{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}
            {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"""
# meta-llama/Llama-2-7b-chat-hf, tokenizer_config.json
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# meta-llama/Meta-Llama-3-8B-Instruct, tokenizer_config.json
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# meta-llama/Llama-3.1-8B-Instruct, tokenizer_config.json (HuatuoGPT-o1-8B has the same)
LLAMA31 = r"""{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""
# THUDM/chatglm3-6b, tokenizer_config.json
CHATGLM3 = (
    "{% for message in messages %}{% if loop.first %}[gMASK]sop<|{{ message['role'] }}|>\n {{ message['content'] }}{% else %}<|{{ message['role'] }}|>\n "
    "{{ message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# huatuo_cli_demo_stream.py of FreedomIntelligence/HuatuoGPT
HUATUO_SYSTEM = (
    "一位用户和智能医疗大模型HuatuoGPT之间的对话。对于用户的医疗问诊，HuatuoGPT给出准确的、详细的、温暖的指导建议。"
    "对于用户的指令问题，HuatuoGPT给出有益的、详细的、有礼貌的回答。"
)


def conversations():
    user = lambda text: {"role": "user", "content": text}  # noqa: E731
    assistant = lambda text: {"role": "assistant", "content": text}  # noqa: E731
    system = {"role": "system", "content": "你是华佗医疗咨询助手。只依据参考资料回答，每句话用[编号]注明出处。"}
    question = user("参考资料：\n[1] 高血压怎么办\n少盐。\n问题：我妈65岁，血压160/95，头晕三天了 😷，要紧吗？")
    return [
        [question],
        [system, question],
        [user("你好"), assistant("你好，请问哪里不舒服？"), user("  头痛\n两天了 ")],
        [system, user(" 感冒吃什么药？\x1f"), assistant("\n多喝水。\n"), user("Is 38.5 ℃ high?"), assistant("Yes."), user("怎么办")],
    ]


def split_turns(messages):
    """System text, then the rest."""
    if messages[0]["role"] == "system":
        return messages[0]["content"], messages[1:]
    return None, messages


def llama2_ids(case, text):
    """Meta's llama repository: BOS, then each turn encoded by itself, then EOS behind answers."""
    ids = []
    for turn in text.split("<s>")[1:]:
        ids.append(case.vocabulary["<s>"])
        parts = turn.split("</s>")
        ids += case.encode(parts[0]) + [case.vocabulary["</s>"]] * (len(parts) - 1)
    return ids


def chatglm3(case, messages):
    """build_chat_input of tokenization_chatglm.py (ChatGLM3)."""
    v = case.vocabulary
    ids = [v["[gMASK]"], v["sop"]]
    for m in messages:
        ids += [v[f"<|{m['role']}|>"]] + case.encode("\n") + case.encode(m["content"])
    return ids + [v["<|assistant|>"]]


def chatglm2(case, messages):
    """build_prompt and the prefix tokens of tokenization_chatglm.py (ChatGLM2); system text before the first question."""
    system, rest = split_turns(messages)
    text = ""
    for n in range(0, len(rest), 2):
        question = rest[n]["content"] if n or system is None else system + "\n" + rest[n]["content"]
        text += f"[Round {n // 2 + 1}]\n\n问：{question}\n\n答："
        if n + 1 < len(rest):
            text += rest[n + 1]["content"] + "\n\n"
    return "[gMASK]sop" + text, [case.vocabulary["[gMASK]"], case.vocabulary["sop"]] + case.encode(text)


def baichuan2(case, messages):
    """build_chat_input of generation_utils.py (Baichuan2-7B-Chat): user_token_id is <reserved_106>, assistant_token_id <reserved_107>."""
    marks = {"user": "<reserved_106>", "assistant": "<reserved_107>"}
    text, ids = "", []
    for m in messages:
        if m["role"] in marks:
            text, ids = text + marks[m["role"]], ids + [case.vocabulary[marks[m["role"]]]]
        text, ids = text + m["content"], ids + case.encode(m["content"])
    return text + marks["assistant"], ids + [case.vocabulary[marks["assistant"]]]


def huatuo(case, messages):
    """generate_prompt of huatuo_cli_demo_stream.py (HuatuoGPT), in Baichuan's tokenizer, which adds no BOS."""
    system, rest = split_turns(messages)
    text = HUATUO_SYSTEM if system is None else system
    parts = [text]
    for m in rest:
        if m["role"] == "user":
            parts[-1] += f"<病人>：{m['content']} <HuatuoGPT>："
        else:
            parts[-1] += m["content"]
            parts.append("")
    ids = []
    for i, part in enumerate(parts):
        ids += ([case.vocabulary["</s>"]] if i else []) + case.encode(part)
    return "</s>".join(parts), ids


def huatuo2(case, messages):
    """generate_prompt of cli_demo.py (HuatuoGPT-II); system text before the first question."""
    system, rest = split_turns(messages)
    text = ""
    for i, m in enumerate(rest):
        content = m["content"] if i or system is None else system + "\n" + m["content"]
        text += f"{'<问>' if m['role'] == 'user' else '<答>'}：{content}\n"
    return text + "<答>：", case.encode(text + "<答>：")


def ziya(case, messages):
    """The model card of IDEA-CCNL/Ziya-LLaMA-13B-v1.1; <human> and <bot> are tokens of it, and it writes BOS."""
    system, rest = split_turns(messages)
    text, ids = "", [case.vocabulary["<s>"]]
    for i, m in enumerate(rest):
        label = "<human>" if m["role"] == "user" else "<bot>"
        content = m["content"] if i or system is None else system + "\n" + m["content"]
        text += f"{label}:{content}\n"
        ids += [case.vocabulary[label]] + case.encode(f":{content}\n")
    return text + "<bot>:", ids + [case.vocabulary["<bot>"]] + case.encode(":")


def prompts(cases):
    """Each: the template's text or the name of the form, messages, and what they become."""
    rows = []
    for messages in conversations():
        for name, template in [("qwen2", QWEN2), ("qwen2", QWEN25), ("qwen3", QWEN3), ("llama3", LLAMA3), ("llama3", LLAMA31)]:
            options = dict(chat_template=template, add_generation_prompt=True, enable_thinking=False)
            tokenizer = cases[name].tokenizer
            tokenizer.backend_tokenizer.encode_special_tokens = False
            text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
            ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
            tokenizer.backend_tokenizer.encode_special_tokens = True
            rows.append({"model": name, "template": template, "messages": messages, "text": text, "ids": ids})
        render = lambda template: cases["llama3"].tokenizer.apply_chat_template(  # noqa: E731
            messages, chat_template=template.replace("bos_token", "'<s>'").replace("eos_token", "'</s>'"), tokenize=False, add_generation_prompt=True
        )
        text, ids = render(LLAMA2), llama2_ids(cases["llama2"], render(LLAMA2))
        assert ids == cases["llama2"].tokenizer.apply_chat_template(messages, chat_template=LLAMA2, return_dict=False), "transformers differs"
        rows.append({"model": "llama2", "template": LLAMA2, "messages": messages, "text": text, "ids": ids})
        rows.append({"model": "chatglm3", "template": CHATGLM3, "messages": messages, "text": render(CHATGLM3), "ids": chatglm3(cases["chatglm3"], messages)})
        for name, form, build in [
            ("chatglm3", "ChatGlm2", chatglm2), ("baichuan2", "Baichuan2", baichuan2), ("baichuan2", "HuatuoGpt", huatuo),
            ("baichuan2", "HuatuoGpt2", huatuo2), ("ziya", "Ziya", ziya),
        ]:
            text, ids = build(cases[name], messages)
            rows.append({"model": name, "form": form, "messages": messages, "text": text, "ids": ids})
    return rows
