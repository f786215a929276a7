//! Files and skills: forms, names, and objects of both vintages.

use contract::dialect::Vintage;
use contract::file::{self, File, FileScope, FileTag, UploadFile};
use contract::ids::{FileId, SessionId, SkillId, SkillVersionId};
use contract::parse::Invalid;
use contract::skill::{
    self, BetaSkillVersion, CreateSkill, CreateSkillVersion, Skill, SkillOrigin, SkillSource,
    SkillTag, SkillVersion, SkillVersionTag,
};
use contract::time::Micros;
use serde_json::json;

const T: &str = "1970-01-01T00:00:00.000000Z";

fn parts(parts: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    parts.iter().map(own).collect()
}

#[test]
fn an_upload_may_say_when_it_expires_and_nothing_else() {
    let read = |texts: &[(&str, &str)]| {
        UploadFile::parse(parts(texts)).map(|form| form.expires_in_seconds)
    };
    assert_eq!(read(&[]), Ok(None));
    for good in [3_600, 7_776_000] {
        let text = good.to_string();
        assert_eq!(read(&[("expires_in_seconds", &text)]), Ok(Some(good)));
    }
    for bad in ["3599", "7776001", "-1", "1e4", "", "3600.0", "+3600"] {
        let refused = read(&[("expires_in_seconds", bad)]).expect_err(bad);
        assert_eq!(refused.path, "expires_in_seconds");
        assert!(
            refused.problem.contains("from 3600 to 7776000"),
            "{refused}"
        );
    }
    let unknown = read(&[("colour", "red")]).unwrap_err();
    let problem = "unknown part of the form; allowed: `expires_in_seconds`";
    assert_eq!(unknown, Invalid::at("colour", problem));
    let twice = read(&[
        ("expires_in_seconds", "3600"),
        ("expires_in_seconds", "3600"),
    ]);
    assert_eq!(twice.unwrap_err().path, "expires_in_seconds");
}

#[test]
fn a_file_keeps_the_last_component_of_its_name() {
    for (sent, kept) in [
        (Some("a.txt"), "a.txt"),
        (Some("/etc/passwd"), "passwd"),
        (Some(r"C:\data\täble.csv"), "täble.csv"),
        (Some("../.."), "unnamed.pdf"),
        (Some("dir/"), "unnamed.pdf"),
        (Some(""), "unnamed.pdf"),
        (None, "unnamed.pdf"),
    ] {
        assert_eq!(
            file::name(sent, "application/pdf").as_deref(),
            Ok(kept),
            "{sent:?}"
        );
    }
    assert_eq!(
        file::name(None, "text/plain; charset=utf-8").as_deref(),
        Ok("unnamed.txt")
    );
    assert_eq!(
        file::name(None, "application/x-odd").as_deref(),
        Ok("unnamed")
    );
    let (longest, longer) = ("ä".repeat(255), "ä".repeat(256));
    assert_eq!(
        file::name(Some(&longest), "").as_deref(),
        Ok(longest.as_str())
    );
    for bad in ["a\nb", "a?b", "a*", "<a>", "a|b", "a:b", "\"a\"", &longer] {
        assert_eq!(file::name(Some(bad), "").expect_err(bad).path, "file");
    }
}

#[test]
fn a_file_has_the_shape_of_the_sdk() {
    let (id, session) = (FileId::from_bits(1), SessionId::from_bits(2));
    let mut file = File {
        id,
        kind: FileTag::File,
        filename: "a.txt".to_owned(),
        mime_type: "text/plain".to_owned(),
        size_bytes: 3,
        downloadable: false,
        scope: None,
        created_at: Micros(0),
        expires_at: None,
    };
    let mut wanted = json!({"id": id.to_string(), "type": "file", "filename": "a.txt", "mime_type": "text/plain",
        "size_bytes": 3, "downloadable": false, "created_at": T, "expires_at": null});
    assert_eq!(serde_json::to_value(&file).unwrap(), wanted);
    file.scope = Some(FileScope::Session { id: session });
    wanted["scope"] = json!({"type": "session", "id": session.to_string()});
    assert_eq!(serde_json::to_value(&file).unwrap(), wanted);
    assert_eq!(serde_json::from_value::<File>(wanted).unwrap(), file);
}

#[test]
fn a_skill_is_named_in_the_words_of_the_client() {
    let read = |texts: &[(&str, &str)], vintage| {
        CreateSkill::parse(parts(texts), vintage).map(|form| form.display_name)
    };
    let name = Some("Tables".to_owned());
    assert_eq!(read(&[], Vintage::General), Ok(None));
    assert_eq!(
        read(&[("display_name", "Tables")], Vintage::General),
        Ok(name.clone())
    );
    assert_eq!(
        read(&[("display_title", "Tables")], Vintage::Beta),
        Ok(name)
    );
    for (texts, vintage, path) in [
        ([("display_title", "x")], Vintage::General, "display_title"),
        ([("display_name", "x")], Vintage::Beta, "display_name"),
        ([("display_name", "")], Vintage::General, "display_name"),
        ([("display_title", "")], Vintage::Beta, "display_title"),
    ] {
        assert_eq!(read(&texts, vintage).unwrap_err().path, path);
    }
    let long = "n".repeat(256);
    assert!(read(&[("display_name", &long)], Vintage::General).is_err());
    assert!(CreateSkillVersion::parse(Vec::new()).is_ok());
    let refused = CreateSkillVersion::parse(parts(&[("display_name", "x")])).unwrap_err();
    assert_eq!(refused.path, "display_name");
}

#[test]
fn a_skill_is_one_folder_with_its_description_at_the_root() {
    assert_eq!(skill::folder(&["d/SKILL.md", "d/s/a.py"]), Ok("d"));
    let many = (0..1_001).map(|n| format!("d/{n}")).collect::<Vec<_>>();
    let many = many.iter().map(String::as_str).collect::<Vec<_>>();
    for (paths, place) in [
        (vec![], "files"),
        (many, "files"),
        (vec!["d/a.py"], "files"),
        (vec!["d/s/SKILL.md"], "files"),
        (vec!["d/skill.md"], "files"),
        (vec!["SKILL.md"], "files[0]"),
        (vec!["d/SKILL.md", "e/a.py"], "files[1]"),
        (vec!["d/SKILL.md", "d/SKILL.md"], "files[1]"),
        (vec!["d/SKILL.md", "d/../../etc/passwd"], "files[1]"),
        (vec!["d/SKILL.md", "d//a"], "files[1]"),
        (vec!["d/SKILL.md", "d/"], "files[1]"),
        (vec!["d/SKILL.md", r"d/..\a"], "files[1]"),
        (vec!["/d/SKILL.md"], "files[0]"),
        (vec!["../SKILL.md"], "files[0]"),
        (vec![""], "files[0]"),
    ] {
        let refused = skill::folder(&paths).expect_err(&format!("{paths:?}"));
        assert_eq!(refused.path, place, "{paths:?}: {refused}");
    }
}

#[test]
fn a_skill_calls_itself_by_a_slug_and_says_what_it_does() {
    let (name, text) = ("a".repeat(64), "d".repeat(1_024));
    assert_eq!(skill::check_front_matter(&name, &text), Ok(()));
    for (name, text, path) in [
        ("", "d", "SKILL.md.name"),
        (&"a".repeat(65), "d", "SKILL.md.name"),
        ("My-Skill", "d", "SKILL.md.name"),
        ("my_skill", "d", "SKILL.md.name"),
        ("claude-tables", "d", "SKILL.md.name"),
        ("not-by-anthropic", "d", "SKILL.md.name"),
        ("a", "", "SKILL.md.description"),
        ("a", &"d".repeat(1_025), "SKILL.md.description"),
    ] {
        let refused = skill::check_front_matter(name, text).expect_err(name);
        assert_eq!(refused.path, path, "{refused}");
    }
}

#[test]
fn a_skill_and_its_version_have_the_shape_of_either_vintage() {
    let (id, version) = (SkillId::from_bits(1), SkillVersionId::from_bits(2));
    let skill = Skill {
        id,
        kind: SkillTag::Skill,
        display_name: "Tables".to_owned(),
        latest_version_id: version,
        source: SkillSource {
            kind: SkillOrigin::Custom,
        },
        created_at: Micros(0),
        updated_at: Micros(0),
    };
    assert_eq!(
        serde_json::to_value(&skill).unwrap(),
        json!({"id": id.to_string(), "type": "skill", "display_name": "Tables",
            "latest_version_id": version.to_string(), "source": {"type": "custom"},
            "created_at": T, "updated_at": T})
    );
    assert_eq!(
        serde_json::to_value(skill.beta(Micros(7))).unwrap(),
        json!({"id": id.to_string(), "type": "skill", "display_title": "Tables", "latest_version": "7",
            "source": "custom", "created_at": T, "updated_at": T})
    );
    let made = SkillVersion {
        id: version,
        kind: SkillVersionTag::SkillVersion,
        skill_id: id,
        name: "tables".to_owned(),
        description: "d".to_owned(),
        created_at: Micros(0),
    };
    let mut wanted = json!({"id": version.to_string(), "type": "skill_version", "skill_id": id.to_string(),
        "name": "tables", "description": "d", "created_at": T});
    assert_eq!(serde_json::to_value(&made).unwrap(), wanted);
    wanted["version"] = json!("0");
    wanted["directory"] = json!("tables");
    assert_eq!(
        serde_json::to_value(BetaSkillVersion::from(made)).unwrap(),
        wanted
    );
}

#[test]
fn only_the_beta_of_files_and_skills_speaks_as_it_did() {
    let both = "managed-agents-2026-04-01, files-api-2025-04-14,skills-2025-10-02";
    assert_eq!(
        (Vintage::of_files(both), Vintage::of_skills(both)),
        (Vintage::Beta, Vintage::Beta)
    );
    let files = "files-api-2025-04-14";
    assert_eq!(
        (Vintage::of_files(files), Vintage::of_skills(files)),
        (Vintage::Beta, Vintage::General)
    );
    for none in ["", "managed-agents-2026-04-01", "files-api-2025-04-14x"] {
        assert_eq!(
            (Vintage::of_files(none), Vintage::of_skills(none)),
            (Vintage::General, Vintage::General)
        );
    }
}
