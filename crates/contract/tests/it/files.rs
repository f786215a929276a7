//! Files and skills: forms, names, and objects of both generations.

use contract::dialect::Generation;
use contract::file::{self, File, FileScope, FileTag, UploadFile};
use contract::ids::{FileId, SessionId, SkillId, SkillVersionId};
use contract::parse::Invalid;
use contract::skill::{
    self, CreateSkill, CreateSkillVersion, Skill, SkillOrigin, SkillSource, SkillTag, SkillVersion,
    SkillVersionOf2023, SkillVersionTag,
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
fn a_skill_is_named_in_the_words_of_its_generation() {
    let read = |texts: &[(&str, &str)], generation| {
        CreateSkill::parse(parts(texts), generation).map(|form| form.display_name)
    };
    let name = Some("Tables".to_owned());
    assert_eq!(read(&[], Generation::V2026), Ok(None));
    assert_eq!(
        read(&[("display_name", "Tables")], Generation::V2026),
        Ok(name.clone())
    );
    assert_eq!(
        read(&[("display_title", "Tables")], Generation::V2023),
        Ok(name)
    );
    for (texts, generation, path) in [
        ([("display_title", "x")], Generation::V2026, "display_title"),
        ([("display_name", "x")], Generation::V2023, "display_name"),
        ([("display_name", "")], Generation::V2026, "display_name"),
        ([("display_title", "")], Generation::V2023, "display_title"),
    ] {
        assert_eq!(read(&texts, generation).unwrap_err().path, path);
    }
    let long = "n".repeat(256);
    assert!(read(&[("display_name", &long)], Generation::V2026).is_err());
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
fn a_skill_and_its_version_have_the_shape_of_either_generation() {
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
        serde_json::to_value(skill.of_2023(Micros(7))).unwrap(),
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
        serde_json::to_value(SkillVersionOf2023::from(made)).unwrap(),
        wanted
    );
}
