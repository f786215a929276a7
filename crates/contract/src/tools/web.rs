//! Settings of the web tools (api.md §3.3, behaviours §8). This build stores them and offers neither tool.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ToolConfigParams, ToolName};
use crate::check;
use crate::limits::{URL_SOURCE_TOOLS, WEB_DOMAIN, WEB_DOMAINS};
use crate::parse::{Invalid, StringOr, tagged};

/// Where a URL must have been seen, in a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlSourcesParams {
    /// In results of custom tools.
    #[serde(default)]
    pub client_tool_results: Option<FilterParams>,
    /// In results of web tools.
    #[serde(default)]
    pub server_tool_results: Option<FilterParams>,
    /// In what the user wrote: `all` or `none`.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::user_input::<FilterParams>")]
    pub user_input: Option<FilterParams>,
}

/// A filter in a request: `"all"`, `"none"` or an object.
pub type FilterParams = StringOr<Filter>;

/// A filter of URL sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Filter {
    /// Every source.
    All,
    /// No source.
    None,
    /// Only these tools.
    Only(ToolFilter),
    /// All but these tools.
    Except(ToolFilter),
}

tagged!(Filter {
    "all" => All, "none" => None, "only" => Only(ToolFilter), "except" => Except(ToolFilter),
});

/// Tools named by a filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolFilter {
    /// 1 to 128 distinct tools.
    pub tools: Vec<ToolReference>,
}

/// A tool by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToolReference {
    /// The only form.
    ToolReference(Named),
}

tagged!(ToolReference { "tool_reference" => ToolReference(Named) });

/// A name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The tool's name.
    pub name: String,
}

/// Where a URL must have been seen; null: anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct UrlSources {
    pub client_tool_results: Option<Filter>,
    pub server_tool_results: Option<Filter>,
    #[schemars(schema_with = "crate::schema::user_input::<Filter>")]
    pub user_input: Option<Filter>,
}

/// Where the user of `web_search` is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct UserLocation {
    #[serde(rename = "type")]
    pub kind: Approximate,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

/// The constant `approximate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Approximate {
    /// The only value.
    Approximate,
}

/// A field that may be absent, null or there, outside of updates.
pub(super) mod nullable {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Serialize, S: Serializer>(
        field: &Option<Option<T>>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        field.as_ref().and_then(Option::as_ref).serialize(s)
    }

    pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Option::deserialize(d).map(Some)
    }
}

/// The web settings of one config, checked; `customs` are the names of the agent's custom tools.
pub(super) fn check_config(
    config: &ToolConfigParams,
    customs: &BTreeSet<&str>,
) -> Result<Option<Option<UrlSources>>, Invalid> {
    let tool = config.name;
    let only = |given: bool, field: &str, fits: bool| {
        if given && !fits {
            let problem = format!("unknown field for the tool `{}`", tool.name());
            return Err(Invalid::at(field, problem));
        }
        Ok(())
    };
    only(
        config.allowed_domains.is_some(),
        "allowed_domains",
        tool.is_web(),
    )?;
    only(
        config.blocked_domains.is_some(),
        "blocked_domains",
        tool.is_web(),
    )?;
    let fetch = tool == ToolName::WebFetch;
    only(
        config.max_content_tokens.is_some(),
        "max_content_tokens",
        fetch,
    )?;
    only(config.url_sources.is_some(), "url_sources", fetch)?;
    only(
        config.user_location.is_some(),
        "user_location",
        tool == ToolName::WebSearch,
    )?;
    if config.allowed_domains.is_some() && config.blocked_domains.is_some() {
        return Err(Invalid::at(
            "blocked_domains",
            "Only one of allowed_domains or blocked_domains may be set.",
        ));
    }
    for (field, domains) in [
        ("allowed_domains", &config.allowed_domains),
        ("blocked_domains", &config.blocked_domains),
    ] {
        check_domains(field, domains.as_deref(), tool)?;
    }
    if config.max_content_tokens == Some(0) {
        return Err(Invalid::at("max_content_tokens", "must be at least 1"));
    }
    if let Some(location) = &config.user_location {
        check_location(location).map_err(|bad| bad.under("user_location"))?;
    }
    let sources = config
        .url_sources
        .as_ref()
        .map(|sources| check_sources(sources, customs).map_err(|bad| bad.under("url_sources")))
        .transpose()?;
    Ok(fetch.then_some(sources))
}

fn check_location(location: &UserLocation) -> Result<(), Invalid> {
    if let Some(country) = &location.country
        && !(country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase()))
    {
        return Err(Invalid::at(
            "country",
            "must be an ISO 3166-1 alpha-2 code such as `DE`",
        ));
    }
    for (field, text) in [
        ("city", &location.city),
        ("region", &location.region),
        ("timezone", &location.timezone),
    ] {
        if let Some(text) = text {
            check::length(field, text, 1, WEB_DOMAIN)?;
        }
    }
    Ok(())
}

fn check_domains(field: &str, domains: Option<&[String]>, tool: ToolName) -> Result<(), Invalid> {
    let Some(domains) = domains else {
        return Ok(());
    };
    if domains.is_empty() {
        return Err(Invalid::at(
            field,
            "Empty list of domains is ambiguous. Provide at least one domain or null.",
        ));
    }
    check::count(field, domains.len(), WEB_DOMAINS)?;
    let mut seen = BTreeSet::new();
    for (index, domain) in domains.iter().enumerate() {
        let path = format!("{field}[{index}]");
        check::length(&path, domain, 1, WEB_DOMAIN)?;
        let plain = domain.trim_end_matches('/').to_ascii_lowercase();
        let (host, suffix) = plain
            .split_once('/')
            .map_or((plain.as_str(), ""), |(h, s)| (h, s));
        if !suffix.is_empty() && tool == ToolName::WebFetch {
            return Err(Invalid::at(path, "must be a plain hostname without a path"));
        }
        let numeric = host
            .rsplit('.')
            .next()
            .is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if numeric {
            return Err(Invalid::at(
                path,
                "IP addresses are not supported; provide a plain hostname like \"example.com\"",
            ));
        }
        let local = ["localhost", "local", "internal", "localdomain", "invalid"]
            .contains(&host.rsplit('.').next().unwrap_or_default());
        if !check::is_hostname(host) || !host.contains('.') || local {
            return Err(Invalid::at(
                path,
                "must be a plain hostname like \"example.com\"",
            ));
        }
        if !seen.insert(plain) {
            return Err(Invalid::at(path, "is there twice"));
        }
    }
    Ok(())
}

fn check_sources(
    params: &UrlSourcesParams,
    customs: &BTreeSet<&str>,
) -> Result<UrlSources, Invalid> {
    let web = BTreeSet::from(["web_search", "web_fetch"]);
    let sources = UrlSources {
        client_tool_results: filter("client_tool_results", &params.client_tool_results, customs)?,
        server_tool_results: filter("server_tool_results", &params.server_tool_results, &web)?,
        user_input: filter("user_input", &params.user_input, &BTreeSet::new())?,
    };
    let none = Some(Filter::None);
    if sources.client_tool_results == none
        && sources.server_tool_results == none
        && sources.user_input == none
    {
        return Err(Invalid::body(
            "all three are `none`, so no URL could ever be fetched",
        ));
    }
    Ok(sources)
}

fn filter(
    field: &str,
    params: &Option<FilterParams>,
    known: &BTreeSet<&str>,
) -> Result<Option<Filter>, Invalid> {
    let filter = match params {
        None => return Ok(None),
        Some(StringOr::String(text)) => match text.as_str() {
            "all" => Filter::All,
            "none" => Filter::None,
            _ => return Err(Invalid::at(field, "unknown value; allowed: `all`, `none`")),
        },
        Some(StringOr::Object(filter)) => filter.clone(),
    };
    if let Filter::Only(tools) | Filter::Except(tools) = &filter {
        if known.is_empty() && field == "user_input" {
            return Err(Invalid::at(
                format!("{field}.type"),
                "unknown value; allowed: `all`, `none`",
            ));
        }
        let path = format!("{field}.tools");
        if tools.tools.is_empty() {
            return Err(Invalid::at(path, "must not be empty"));
        }
        check::count(&path, tools.tools.len(), URL_SOURCE_TOOLS)?;
        let mut seen = BTreeSet::new();
        for (index, ToolReference::ToolReference(tool)) in tools.tools.iter().enumerate() {
            let path = format!("{path}[{index}].name");
            if !known.contains(tool.name.as_str()) {
                return Err(Invalid::at(path, "names no such tool of this agent"));
            }
            if !seen.insert(&tool.name) {
                return Err(Invalid::at(path, "is there twice"));
            }
        }
    }
    Ok(Some(filter))
}
