"""What the doctor can find: each rule's severity, what follows from it, what to do, and what a clean copy does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from ..data.storage import WHITE_NOTE

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
EXAMPLES = 3
"""Files named by a finding."""


@dataclass(frozen=True)
class Rule:
    """Something that may be wrong with a dataset.

    Args:
        id: its name on reports and in programs.
        severity: ``"error"`` stops a training or makes its result wrong, ``"warning"`` harms it, ``"note"`` is worth
            knowing.
        title: what was found, to stand behind a count of `unit`.
        consequence: what follows where nothing is done.
        remedy: what to do.
        fix: what a clean copy does about it; empty where only the user can decide.
        unit: what is counted.
    """

    id: str
    severity: Severity
    title: str
    consequence: str
    remedy: str
    fix: str = ""
    unit: str = "files"

    @property
    def fixable(self) -> bool:
        """Whether a clean copy is free of it."""
        return bool(self.fix)


LEFT_OUT = "the pair is left out"
THINNER = (
    "train fastsegnet with model.options.stride=2 or 4, whichever is named, or enlarge small images with "
    "model.long_side; featherseg train FOLDER chooses it"
)

# fmt: off
RULES: tuple[Rule, ...] = (
    # Files and layout
    Rule("no-pairs", "error", "no image has a mask", "there is nothing to train on",
         "check the folders' names and that masks are named as their images", unit="datasets"),
    Rule("layout-other", "error", "images and masks lie not in images/ and masks/, and do not match one to one",
         "featherseg train refuses the folder",
         "add what is missing, say which are which with data.options.images and data.options.masks, or use --fix",
         "copied into images/ and masks/ with a folder per split", "datasets"),
    Rule("no-train-split", "error", "no training split has a pair", "there is nothing to train on",
         "name the training images in the split file or folder", "a training split is drawn", "datasets"),
    Rule("no-val-split", "error", "no validation split has a pair", "no epoch can be chosen and no score believed",
         "keep about a fifth of the images, of scenes of their own, for validation", "a fifth is drawn as val",
         "datasets"),
    Rule("split-names", "note", "splits have other names than train and val",
         "featherseg train looks for train and val", "set data.train_split and data.val_split",
         "renamed to train and val",
         "splits"),
    Rule("class-file", "error", "the class file cannot be used", "featherseg train refuses it",
         "correct it; the classes are inferred from the masks here", "a new one is written"),
    Rule("no-permission", "error", "may not be read", "training stops at it", "give yourself the right to read it",
         LEFT_OUT),
    Rule("broken-link", "warning", "links that lead nowhere or round in circles",
         "the loader skips them without a word",
         "restore what they point to, or delete them", "left out"),
    Rule("foreign-file", "note", "pictures of a format that the loader does not read",
         "they are skipped without a word",
         "convert them to PNG or JPEG", "left out"),
    Rule("not-read", "warning", "pictures lie where the loader does not look", "they are skipped without a word",
         "move them into the split's folder"),
    Rule("image-without-mask", "error", "images have no mask", "featherseg train refuses the folder",
         "add the mask or remove the image", "left out"),
    Rule("mask-without-image", "warning", "masks have no image", "they are never used",
         "add the image or remove the mask",
         "left out"),
    Rule("names-differ", "error",
         "image and mask belong together but are named differently (case, Unicode form, suffix)",
         "the loader does not match them", "give both one name", "paired and renamed", "pairs"),
    Rule("duplicate-stem", "error", "several files have one name but for the suffix",
         "nobody knows which mask belongs to which image", "keep one of them",
         "one is kept: of masks the PNG, else the first by name"),
    Rule("list-encoding", "error", "the split list is no UTF-8", "featherseg train refuses it, or misses names in it",
         "save it as UTF-8", "read as meant"),
    Rule("list-bom", "note", "the split list begins with a byte order mark",
         "programs other than featherseg take it for a part of the first name", "save it as UTF-8 without BOM",
         "written without"),
    Rule("listed-missing", "error", "named in a split list but not there", "featherseg train refuses the split",
         "restore the file or remove the line", "left out", "lines"),
    Rule("listed-twice", "warning", "named twice in a split list", "trained on or counted twice", "remove the line",
         "taken once", "lines"),
    Rule("path-outside", "error", "a split list holds a path where a name belongs",
         "it may lead to files that are no part of the dataset", "remove the line; do not trust where it came from",
         "left out", "lines"),
    Rule("not-listed", "note", "pairs are in no split list", "they are never used", "add them to a list",
         "left out", "pairs"),
    Rule("split-overlap", "error", "samples are in two splits at once", "the score is measured on training images",
         "take them out of the training split", "kept in val or test alone", "samples"),
    # Images
    Rule("empty-file", "error", "empty files (0 bytes)", "training stops at them", "copy or download them again",
         LEFT_OUT),
    Rule("too-large", "error", "pictures of so many pixels that decoding them is an attack or a mistake",
         "they are refused, or fill the memory", "make them smaller", LEFT_OUT),
    Rule("image-truncated", "error", "images end too early", "training stops at them", "copy or download them again",
         LEFT_OUT),
    Rule("image-unreadable", "error", "images cannot be decoded", "training stops at them", "replace or remove them",
         LEFT_OUT),
    Rule("image-float", "error", "images hold float greys of unknown range", "training stops at them",
         "save them with 8 bits", LEFT_OUT),
    Rule("image-16bit", "warning", "images have 16 bits per channel",
         "they are cut to the upper 8 bits; data of 10 or 12 bits becomes nearly black",
         "scale them to 8 bits as your device will", "the upper 8 bits are kept, as in training"),
    Rule("image-cmyk", "warning", "images are CMYK", "colours depend on the program that converts them",
         "convert them to RGB", "converted to RGB"),
    Rule("image-alpha", "warning", "images have transparent pixels", "what lies beneath them is trained on",
         "lay them over the background that they will have", "transparency is dropped, as in training"),
    Rule("image-not-rgb", "note", "images are grey or have a palette among RGB images",
         "they look unlike what a camera gives", "leave them out if the device sees colours", "converted to RGB"),
    Rule("image-rotated", "warning", "images are turned by their EXIF data alone",
         "programs that ignore it see them lying on their side", "save them upright", "turned upright"),
    Rule("orientation-unclear", "warning",
         "images are turned by their EXIF data, and nothing tells whether their masks are turned with them",
         "if the labelling tool ignored EXIF, training sees masks upside down",
         "lay one mask over its image; save the images upright, and their masks to fit"),
    Rule("image-animated", "warning", "pictures have several frames", "only the first is used", "save the frames apart",
         "the first is kept"),
    Rule("wrong-extension", "warning", "the suffix names another format than the file has",
         "programs that trust it fail (featherseg does not)", "rename them", "written as PNG"),
    Rule("image-blank", "warning", "images are one colour all over", "they teach nothing, or belong to no scene",
         "remove them", LEFT_OUT),
    Rule("image-small", "note", "images have a side below 64 pixels", "they are padded", "use larger images or crops"),
    Rule("constant-border", "note", "images have a black border that their masks label as a class",
         "the network learns the border instead of the scene", "crop the border away, or mask it with 255"),
    Rule("statistics-far", "note", "colours are far from ImageNet's mean or spread",
         "pretrained encoders see what they were not made for", "check exposure and channel order; train longer",
         unit="datasets"),
    # Masks
    Rule("mask-truncated", "error", "masks end too early", "training stops at them", "copy or export them again",
         LEFT_OUT),
    Rule("mask-unreadable", "error", "masks cannot be decoded", "training stops at them", "export them again",
         LEFT_OUT),
    Rule("mask-jpeg", "error", "masks are JPEG, whose compression changes values along every border",
         "training stops at them, or learns values that are no class", "export them again as PNG",
         "snapped to the nearest class where classes are far enough apart, else left out"),
    Rule("mask-float", "error", "masks hold floats", "training stops at them", "save whole numbers in a PNG",
         "written as ids where all are whole, else left out"),
    Rule("mask-16bit", "note", "masks have 16 bits", "other programs read them wrongly", "save them with 8 bits",
         "written with 8 bits"),
    Rule("mask-alpha", "warning", "masks hold their shape in the transparency alone",
         "programs that drop it see one class (featherseg does not)", "export the mask itself",
         "opaque is class 1, the rest 0"),
    Rule("mask-grey-as-rgb", "warning", "masks are grey values stored as RGB",
         "programs other than featherseg take them for colours", "save them with one channel",
         "one channel is kept"),
    Rule("mask-colour", "note", "masks are RGB pictures of the classes' colours",
         "they are right, but larger and slower to read than ids", "save class ids", "written as ids"),
    Rule("masks-mixed", "error", "some masks hold ids and others colours", "featherseg train refuses the folder",
         "save all of them one way", "translated where the colours are known, else left out"),
    Rule("palette-differs", "warning", "palette masks give one colour different ids",
         "programs that read the ids take one class for another (featherseg reads the colours)",
         "export them again with one palette", "read by colour"),
    Rule("mask-0-255", "note", WHITE_NOTE, "programs that ignore 255 never learn the foreground (featherseg does)",
         "save the foreground as 1 for those", "255 becomes class 1"),
    Rule("ids-shifted", "error", "ids begin at 1: 0 never occurs and the largest is the number of classes",
         "the last class is refused, or every class has its neighbour's name", "subtract 1", "1 is subtracted"),
    Rule("zero-unlabelled", "error", "the value 0 stands for unlabelled: values are 0 to n for n names",
         "the last class is refused, and every other has its neighbour's name",
         "write ids = [1, …, n] and ignore_index = 0 into the class file",
         "0 becomes 255, ignored, and 1 is subtracted"),
    Rule("zero-unclear", "error", "values are 0 to n for n names: is 0 unlabelled, or n a class without a name?",
         "training stops, or every class has its neighbour's name; no clean copy is made before it is known",
         "if 0 is unlabelled, write ids = [1, …, n] and ignore_index = 0 into the class file; else name the class",
         unit="datasets"),
    Rule("ids-sparse", "error", "ids have gaps, as grey levels do that were chosen for the eye",
         "a class is made for every gap, or the folder is refused", "list them as ids = […] in classes.toml",
         "numbered 0, 1, 2, …"),
    Rule("unknown-ids", "error", "masks hold values that are no class", "training stops at them",
         "correct the masks, or add the values to the classes",
         "those pixels become 255, ignored, where they are no class: in few masks, or under 1 % of the pixels"),
    Rule("mask-antialiased", "error", "masks were smoothed or resized: values between the classes along borders",
         "training stops at them, or learns values that are no class", "export them again without smoothing",
         "snapped to the nearest class"),
    Rule("masks-photographs", "error", "masks hold so many values that they are photographs",
         "featherseg train refuses them", "check that the masks' folder holds masks", "left out"),
    Rule("mask-is-image", "error", "the mask is the image itself", "the network is taught nothing",
         "put the mask in its place", LEFT_OUT, "pairs"),
    Rule("size-mismatch", "error", "image and mask differ in size", "training stops at them",
         "export one of them again",
         "the mask is resized where its shape fits, thin classes kept by their share, else left out", "pairs"),
    Rule("mask-not-rotated", "error", "the mask fits the image as stored, not as its EXIF data turns it",
         "training stops at them", "turn the mask as the image", "the mask is turned", "pairs"),
    Rule("mask-all-ignored", "warning", "masks are ignored all over", "they teach nothing and cost time",
         "label or remove them",
         LEFT_OUT),
    Rule("mask-single-class", "note", "masks hold one class all over", "harmless where few, and right where true",
         "check that they are labelled"),
    Rule("masks-identical", "warning", "different images have the very same mask",
         "an export was repeated or is a default",
         "check them against their images"),
    # Classes and splits
    Rule("class-absent", "warning", "classes have no pixel anywhere",
         "they cannot be learnt, and are left out of the mean",
         "label some, or take them out of the classes", unit="classes"),
    Rule("class-not-in-train", "warning", "classes are in val but not in train", "their IoU will be 0",
         "draw the split again", unit="classes"),
    Rule("class-not-in-val", "note", "classes are in train but not in val", "they are never measured",
         "draw the split again", unit="classes"),
    Rule("class-rare", "note", "classes have under 0.1 % of the labelled pixels", "they are learnt late or not at all",
         'set augment.class_balance = 0.5 and loss.class_weights = "auto"', unit="classes"),
    Rule("class-too-thin", "warning", "classes are finer than the network's stride",
         "most of them is lost where a network decides once for so many pixels, however well it learns", THINNER,
         unit="classes"),
    Rule("class-thin", "note", "classes are nearly as fine as the network's stride",
         "a part of them is lost where a network decides once for so many pixels, however well it learns", THINNER,
         unit="classes"),
    Rule("duplicate-across-splits", "error", "the very same picture is in two splits",
         "the score is measured on training images", "take it out of the training split", "kept in val or test alone"),
    Rule("duplicate-images", "warning", "the very same picture and mask occur again in their split",
         "they count more than others", "remove the copies", "taken once"),
    Rule("duplicate-conflict", "warning", "the very same picture occurs with different masks",
         "the labels contradict each other", "decide for one of the masks"),
    Rule("near-duplicate-across-splits", "warning", "val or test images look nearly as a training image does",
         "the score flatters the network", "split by scene or recording, not by image"),
    Rule("near-duplicates", "note", "images look nearly as another one of their split does",
         "there is less to learn than their number says", "keep fewer frames of a recording"),
    Rule("same-recording", "warning", "val or test frames lie between training frames of the same recording",
         "the score flatters the network: it has seen these places",
         "keep whole recordings apart; where the split is drawn, data.options.group = '^(.*?)[0-9]+[^0-9]*$' does by "
         "what stands before the frames' numbers",
         "train and val are drawn again, whole recordings together; a recording alone is cut once"),
)
# fmt: on

BY_ID = {rule.id: rule for rule in RULES}


@dataclass(frozen=True)
class Finding:
    """A rule that a dataset breaks.

    Args:
        rule: which.
        count: how often, in the rule's unit.
        examples: the first of them, each a path below the dataset and what is wrong there.
    """

    rule: Rule
    count: int
    examples: tuple[str, ...]

    @property
    def id(self) -> str:
        """The rule's name."""
        return self.rule.id

    @property
    def severity(self) -> Severity:
        """The rule's severity."""
        return self.rule.severity

    def to_dict(self) -> dict[str, Any]:
        """Return all that is known of it, of JSON types only."""
        rule = self.rule
        return {
            "id": rule.id,
            "severity": rule.severity,
            "count": self.count,
            "unit": rule.unit,
            "title": rule.title,
            "examples": list(self.examples),
            "consequence": rule.consequence,
            "remedy": rule.remedy,
            "fixable": rule.fixable,
            "fix": rule.fix,
        }


@dataclass
class Findings:
    """Collects what is found: counts, and the first examples of each rule, however many there are."""

    _counts: dict[str, int] = field(default_factory=dict)
    _examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, rule: str, example: str, count: int = 1) -> None:
        """Count `rule` as broken once more (or `count` times); an unknown rule is a defect of ours."""
        assert rule in BY_ID, rule
        self._counts[rule] = self._counts.get(rule, 0) + count
        examples = self._examples.setdefault(rule, [])
        if len(examples) < EXAMPLES:
            examples.append(example)

    def __contains__(self, rule: object) -> bool:
        return rule in self._counts

    def listed(self) -> tuple[Finding, ...]:
        """Return the findings, the most severe first, else in the order of the rules."""
        found: Iterable[Finding] = (
            Finding(rule, self._counts[rule.id], tuple(self._examples[rule.id]))
            for rule in RULES
            if rule.id in self._counts
        )
        return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))
