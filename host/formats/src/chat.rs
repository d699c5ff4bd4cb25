//! Chat templates: the Jinja program that a checkpoint carries to lay out a conversation, rendered with the settings and
//! helpers that transformers gives it.

use crate::FormatError;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A message from its parts.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A compiled chat template, with the texts of the special tokens that it may use.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    path: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
}

const NAME: &str = "chat_template";

impl ChatTemplate {
    /// Compiles a template; `path` is where it came from, for errors.
    pub fn new(
        path: &str,
        source: &str,
        bos_token: Option<String>,
        eos_token: Option<String>,
    ) -> Result<Self, FormatError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source.to_owned()).map_err(|e| FormatError::Text {
            path: path.to_owned(),
            what: "compiling the chat template",
            problem: full(&e),
        })?;
        Ok(Self { environment, path: path.to_owned(), bos_token, eos_token })
    }

    /// The conversation as one text; with `add_generation_prompt` it ends where the assistant is to speak.
    pub fn apply(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, FormatError> {
        self.render(Value::from_serialize(messages), add_generation_prompt)
    }

    /// The same with each content a list of parts, as templates of models that take images want it: `{type: text, text}`, and
    /// `{type: image}` where `mark` stands.
    pub fn apply_in_parts(
        &self,
        messages: &[Message],
        mark: Option<&str>,
        add_generation_prompt: bool,
    ) -> Result<String, FormatError> {
        let text = |text: &str| (!text.is_empty()).then(|| context! { type => "text", text => text });
        let parts = |content: &str| -> Vec<Value> {
            let Some(mark) = mark else { return text(content).into_iter().collect() };
            let image = |at: usize| (at > 0).then(|| context! { type => "image" });
            content.split(mark).enumerate().flat_map(|(at, piece)| image(at).into_iter().chain(text(piece))).collect()
        };
        let message = |m: &Message| context! { role => m.role, content => parts(&m.content) };
        self.render(Value::from(messages.iter().map(message).collect::<Vec<_>>()), add_generation_prompt)
    }

    fn render(&self, messages: Value, add_generation_prompt: bool) -> Result<String, FormatError> {
        let template = self.environment.get_template(NAME).expect("the template was added when this was made");
        let context = context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            bos_token => self.bos_token,
            eos_token => self.eos_token,
        };
        template.render(context).map_err(|e| FormatError::Text {
            path: self.path.clone(),
            what: "rendering the chat template",
            problem: full(&e),
        })
    }
}

fn full(error: &Error) -> String {
    let line = error.line().map(|n| format!(" (line {n})")).unwrap_or_default();
    match error.detail() {
        Some(detail) => format!("{}: {detail}{line}", error.kind()),
        None => format!("{}{line}", error.kind()),
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("the template refuses these messages: {message}")))
}

/// Like Python's `json.dumps(..., ensure_ascii=False)`: unlike minijinja's own filter, nothing is escaped for HTML.
fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let fail = |e: serde_json::Error| Error::new(ErrorKind::BadSerialization, e.to_string());
    let Some(indent) = indent else {
        let mut out = Vec::new();
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, PythonSpacing)).map_err(fail)?;
        return Ok(String::from_utf8(out).expect("serde_json writes UTF-8"));
    };
    let indent = " ".repeat(indent);
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter)).map_err(fail)?;
    Ok(String::from_utf8(out).expect("serde_json writes UTF-8"))
}

/// Python puts a space after each comma and colon.
struct PythonSpacing;

impl serde_json::ser::Formatter for PythonSpacing {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, messages: &[Message]) -> Result<String, String> {
        let template = ChatTemplate::new("model.gguf", source, Some("<s>".into()), None).map_err(|e| e.to_string())?;
        template.apply(messages, true).map_err(|e| e.to_string())
    }

    #[test]
    fn python_methods_and_block_trimming_work_as_in_transformers() {
        let source = "{{ bos_token }}\n{% for m in messages %}\n    {% if m['role'].startswith('u') %}\n{{ m.content.strip() | upper }}\n    {% endif %}\n{% endfor %}";
        assert_eq!(render(source, &[Message::new("user", " hi ")]).unwrap(), "<s>\nHI\n");
    }

    #[test]
    fn json_is_written_as_python_does() {
        let text = render("{{ messages[0] | tojson }}", &[Message::new("user", "<é> & 'x'")]).unwrap();
        assert_eq!(text, r#"{"role": "user", "content": "<é> & 'x'"}"#);
    }

    #[test]
    fn a_template_may_refuse_messages_in_its_own_words() {
        let error = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err();
        let expected = "model.gguf: rendering the chat template: invalid operation: the template refuses these messages: roles must alternate (line 1)";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_template_with_bad_syntax_is_reported_when_it_is_compiled() {
        let error = render("{% for %}", &[]).unwrap_err();
        let expected =
            "model.gguf: compiling the chat template: syntax error: unexpected end of block, expected in (line 1)";
        assert_eq!(error, expected);
    }
}
