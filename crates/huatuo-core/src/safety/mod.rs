//! Safety rules: data plus pure functions, applied inside [`crate::consult()`] for every host.

mod dose;
mod red_flag_table;
mod red_flags;

pub use dose::{doses_in, unsupported_doses};
pub use red_flags::{RedFlag, red_flags};

/// The standing notice of every consultation.
pub const NOTICE_NOT_A_DIAGNOSIS: &str = "本回答由计算机根据参考资料生成，不是诊断，不能代替医生面诊。";
/// Added when a sentence was withheld because no reference states its dose or number.
pub const NOTICE_DOSE_WITHHELD: &str = "有一句话含参考资料没有的剂量或数字，已隐去；用药剂量请遵医嘱或药品说明书。";
/// Added when no sentence of the answer is supported by a reference.
pub const NOTICE_UNSUPPORTED: &str = "本回答没有得到参考资料的支持，请不要据此用药或处理。";
/// What an answer says that was written without the first of the earlier turns.
pub const NOTICE_TURNS_LEFT_OUT: &str = "对话较长，较早的内容没有纳入本次回答；如与现在的问题有关，请重新说明。";
/// What an answer says that was begun on one device and finished on another.
pub const NOTICE_DEVICE_LOST: &str = "设备的图形处理器曾中断，回答已自动恢复并接着写完。";
/// Said in place of an answer when retrieval is weak.
pub const ABSTENTION: &str = "没有找到足够相关的参考资料，因此不作回答。请换一种说法，并补充症状、持续时间、年龄和已有疾病；如果不适明显，请尽快就医。";
